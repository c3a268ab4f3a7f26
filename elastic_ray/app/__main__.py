"""The script that `elastic-ray app` gives to Streamlit; `app.py` is the same for a checkout."""

from elastic_ray.app.main import main

main()
