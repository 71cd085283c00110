"""Tasks in a PostgreSQL database."""


class Store:
    def __init__(self, connection):
        self.connection = connection
        with connection, connection.cursor() as cursor:
            cursor.execute(
                "create table if not exists task"
                " (id serial primary key, title text not null check (title <> ''), done boolean not null default false)"
            )

    def add(self, title):
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("insert into task (title) values (%s) returning id", (title,))
            return cursor.fetchone()[0]

    def finish(self, number):
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("update task set done = true where id = %s", (number,))
            if cursor.rowcount == 0:
                raise KeyError(f"there is no task {number}")

    def open(self):
        with self.connection, self.connection.cursor() as cursor:
            cursor.execute("select title from task where not done order by id")
            return [title for (title,) in cursor.fetchall()]
