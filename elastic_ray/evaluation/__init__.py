"""When model states are evaluated and their answers scored."""
