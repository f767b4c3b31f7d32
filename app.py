from api.app import app

__all__ = ["app"]
