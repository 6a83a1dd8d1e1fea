"""The closed forms: ``park``, the published model, and ``ecm``, ours."""
