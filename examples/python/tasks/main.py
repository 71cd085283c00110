import argparse
import os

from . import VERSION


def main():
    parser = argparse.ArgumentParser(prog="tasks")
    parser.add_argument("--version", action="version", version=f"tasks {VERSION}")
    parser.add_argument("title", nargs="?", help="add this task; without: list the open ones")
    arguments = parser.parse_args()

    import psycopg2

    from .store import Store

    store = Store(psycopg2.connect(os.environ["DATABASE"]))
    if arguments.title:
        store.add(arguments.title)
    print(*store.open(), sep="\n")
