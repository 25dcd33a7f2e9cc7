"""Accounts in the store: the first administrator."""

from __future__ import annotations

import pytest
import recorded
from werkzeug.security import check_password_hash

from anvil_web.models import User
from anvil_web.store import users

pytestmark = pytest.mark.usefixtures("store")


def test_the_first_administrator_gets_a_random_password() -> None:
    """Without a configured password twenty random characters open the new account."""
    password = users.ensure_admin(None)
    assert password is not None
    assert len(password) == 20
    admin = users.by_username("admin")
    assert admin is not None
    assert (admin.role, admin.is_active) == ("admin", True)
    assert check_password_hash(admin.password_hash or "", password)
    assert users.active_admin_exists()


def test_an_administrator_is_made_once() -> None:
    """While an active administrator exists nothing is made and no password touched."""
    assert users.ensure_admin("a configured one") == "a configured one"
    before = User.get().password_hash
    assert users.ensure_admin("another one") is None
    assert User.get().password_hash == before


def test_an_inactive_admin_is_activated_with_a_new_password() -> None:
    """An `admin` that nobody can use is promoted, activated, and old sessions end."""
    recorded.an_account("viewer", name="admin", is_active=False)
    assert users.ensure_admin("a new password") == "a new password"
    admin = User.get()
    assert (admin.role, admin.is_active, admin.password_version) == ("admin", True, 1)
    assert check_password_hash(admin.password_hash or "", "a new password")


def test_an_active_account_keeps_its_password() -> None:
    """An active `admin` without the role gets the role, never a new password."""
    recorded.an_account("viewer", name="admin")
    assert users.ensure_admin("a new password") is None
    admin = User.get()
    assert admin.role == "admin"
    assert admin.password_hash == recorded.PASSWORD_HASH


def test_somebody_else_may_be_the_administrator() -> None:
    """Any active account with the role will do."""
    recorded.an_account("admin", name="boss")
    assert users.ensure_admin(None) is None
    assert users.by_username("admin") is None


def test_login_is_noted() -> None:
    """Signing in leaves its time on the account."""
    user = recorded.an_account("viewer")
    users.touch_login(user)
    assert user.last_login_at is not None
    stored = users.get_user(user.id)
    assert stored is not None
    assert stored.last_login_at == user.last_login_at
