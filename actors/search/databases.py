"""Where a search keeps its trials: a local file, or a database by its URL."""

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from cluster.errors import ConfigError, one_line
from cluster.storage import resolve

ALLOWED = (
    "postgresql+psycopg://… (pip install 'imagine-beyond[postgres]'), mysql+pymysql://… "
    "(pip install 'imagine-beyond[mysql]'), sqlite:///FILE, or a local file"
)


def require_studies(studies: str | None, storage: str) -> None:
    """Raises ConfigError if a search has no place for its trials, or cannot speak to it.

    storage: root of the search's artifact, where a journal can grow if it is local. The place is
    not asked for; see `open_studies_storage`.
    """
    if not studies and "://" in resolve(storage):
        raise ConfigError(
            f"studies: none, but storage {storage!r} is no local folder, where a journal could "
            "grow; allowed: a database URL of Optuna's, or a local file"
        )
    if studies and "://" in studies:
        url = _url(studies)
        try:
            url.get_dialect().import_dbapi()
        except (ImportError, SQLAlchemyError) as error:
            raise ConfigError(
                f"studies: {shown(studies)!r} needs a driver that is not here ({one_line(error)}); "
                f"allowed: {ALLOWED}"
            ) from error


def open_studies_storage(studies: str) -> BaseStorage:
    """Optuna's storage in a database or in a journal file, made if it is not there.

    Raises ConfigError if a database does not answer, or has tables of another Optuna.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if "://" not in studies:
        return JournalStorage(JournalFileBackend(resolve(studies)))
    try:
        return RDBStorage(studies)
    except (SQLAlchemyError, RuntimeError) as error:
        reason = getattr(error, "orig", None) or error  # without the statement
        raise ConfigError(
            f"studies: {shown(studies)!r} cannot be used ({one_line(reason)}); allowed: a database "
            "that answers, in which this user may create tables"
        ) from error


def require_answer(studies: str | None) -> None:
    """Asks for a database before hours are spent; raises ConfigError if it cannot be used."""
    if studies and "://" in studies:
        open_studies_storage(studies)


def shown(studies: str | None) -> str | None:
    """As it may be told to others: of a URL, without the password."""
    if not studies or "://" not in studies:
        return studies
    return _url(studies).render_as_string(hide_password=True)


def _url(studies: str) -> URL:
    try:
        return make_url(studies)
    except (SQLAlchemyError, ValueError) as error:  # its message may quote a password
        raise ConfigError(f"studies: no database's URL; allowed: {ALLOWED}") from error
