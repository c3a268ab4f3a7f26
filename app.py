"""The app: `streamlit run app.py -- --results URI`. Its pages are in `elastic_ray/app/pages/`."""

from elastic_ray.app.main import main

main()
