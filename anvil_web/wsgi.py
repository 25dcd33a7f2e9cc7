"""What a WSGI server imports: `anvil_web.wsgi:app`."""

from anvil_web.app import create_app

app = create_app()
