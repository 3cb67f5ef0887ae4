-- Is the present version's value gone? It went with its key, and a new value can be stored.
alter table read_models.credentials add column value_destroyed boolean not null default false;
