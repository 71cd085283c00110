import os

import psycopg2
import pytest

from tasks.store import Store


@pytest.fixture
def store():
    connection = psycopg2.connect(os.environ["DATABASE"])
    with connection, connection.cursor() as cursor:
        cursor.execute("drop table if exists task")
    yield Store(connection)
    connection.close()


def test_a_finished_task_is_not_open(store):
    first = store.add("write")
    store.add("test")
    store.finish(first)
    assert store.open() == ["test"]


def test_titles_are_not_sql(store):
    store.add("'); drop table task; --")
    assert store.open() == ["'); drop table task; --"]


def test_the_database_refuses_empty_titles(store):
    with pytest.raises(psycopg2.errors.CheckViolation):
        store.add("")


def test_finishing_nothing_is_an_error(store):
    with pytest.raises(KeyError):
        store.finish(77)
