"""What a model is taught and asked: one class per task, all with the interface of `Task`.

To add one: write a class like `reviews.Reviews`, or a reader of dialogues like `saferlhf`, and name
it in `TASKS`. Nothing here imports torch or ray, and transformers only where a tokenizer is made:
planning needs neither.
"""
