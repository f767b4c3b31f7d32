"""The application, where `litestar run` and `uvicorn app:app` look for it."""

from api.app import app

__all__ = ["app"]
