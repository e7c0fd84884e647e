-- The catalogue of models. A version is immutable: its files are pinned by hash, and forecasts name it.

create table _kronos.model (
  version text primary key,
  name text not null,
  family text not null,
  uri text not null,
  sha256 text not null,
  settings jsonb not null,
  files jsonb not null,
  train_cutoff date,
  license text,
  registered_at timestamptz not null default pg_catalog.now(),
  registered_by text not null default session_user,
  built_in boolean not null default false,
  trained_on text[],
  check (pg_catalog.starts_with(version, name || '@')),
  check (sha256 ~ '^[0-9a-f]{64}$')
);
create index on _kronos.model (name);
comment on table _kronos.model is 'Registered model versions.';
comment on column _kronos.model.version is 'name@digest; the digest covers the content of all files and the settings that change numbers.';
comment on column _kronos.model.uri is 'Directory of the model, relative to kronos.model_dir.';
comment on column _kronos.model.sha256 is 'SHA-256 of the weights, hexadecimal, as Hugging Face shows it.';
comment on column _kronos.model.settings is 'What the family needs beside the files, defaults filled in.';
comment on column _kronos.model.files is 'SHA-256 in hexadecimal per file, paths relative to kronos.model_dir.';
comment on column _kronos.model.built_in is 'Came with the extension: its files are in the share directory of the server, and a dump leaves it out.';
comment on column _kronos.model.trained_on is 'Keys of the series that the model has seen; NULL: not said, and any series counts as seen.';
comment on column _kronos.model.train_cutoff is 'Day after which the model has seen no data; backtests before it are contaminated.';

create table _kronos.model_alias (
  alias text primary key,
  version text not null references _kronos.model,
  set_at timestamptz not null default pg_catalog.now(),
  set_by text not null default session_user
);
comment on table _kronos.model_alias is 'Names that people use for a version; changed by kronos.set_alias() only.';

select pg_catalog.pg_extension_config_dump('_kronos.model', 'where not built_in');
select pg_catalog.pg_extension_config_dump('_kronos.model_alias', '');

create view kronos.models with (security_barrier) as
  select m.version, m.name, m.family,
         array(select a.alias from _kronos.model_alias a where a.version = m.version order by a.alias) as aliases,
         m.uri, m.sha256, m.settings, m.files, m.train_cutoff, m.license, m.registered_at, m.registered_by,
         m.built_in, m.trained_on
  from _kronos.model m;
comment on view kronos.models is 'Registered model versions and the aliases that point to them.';
comment on column kronos.models.name is 'Name; a version is name@digest.';
comment on column kronos.models.family is 'Family of networks that it belongs to.';
comment on column kronos.models.license is 'Licence of the weights.';
comment on column kronos.models.registered_at is 'When it was registered.';
comment on column kronos.models.registered_by is 'Role that registered it; NULL for built-in ones.';
comment on column kronos.models.version is 'name@digest: what forecasts are recorded under.';
comment on column kronos.models.aliases is 'Aliases that point to this version now.';
comment on column kronos.models.uri is 'Directory of the model, relative to kronos.model_dir.';
comment on column kronos.models.sha256 is 'SHA-256 of the weights, hexadecimal.';
comment on column kronos.models.settings is 'What the family needs beside the files, such as max_context.';
comment on column kronos.models.files is 'SHA-256 in hexadecimal per file; checked whenever the model is loaded.';
comment on column kronos.models.train_cutoff is 'Day after which the model has seen no data.';
comment on column kronos.models.trained_on is 'Keys of the series that it has seen; NULL: not said, and any series counts as seen.';
comment on column kronos.models.built_in is 'Whether it came with the extension.';

-- These run with the privileges of the extension's owner, so that nobody else can write the catalogue.
create function kronos.register_model(
  name text, family text, uri text, sha256 text default null, train_cutoff date default null,
  license text default null, options jsonb default '{}')
returns text
language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'register_model_wrapper';
comment on function kronos.register_model is
  'Checks and catalogues the model in a directory under kronos.model_dir; returns its version. Options: max_context, tokenizer, tokenizer_sha256, temperature, adapter, trained_on.';

create function kronos.set_alias(alias text, model_version text) returns text
language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'set_alias_wrapper';
comment on function kronos.set_alias is
  'Points an alias to a model version and returns that version; a NULL version removes the alias.';

create function kronos.drop_model(model_version text, if_exists boolean default false) returns void
language c volatile parallel unsafe security definer set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'drop_model_wrapper';
comment on function kronos.drop_model is 'Removes a model version from the catalogue; its files stay where they are.';

create function kronos.load_model(model text, device text default 'auto') returns text
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'load_model_wrapper';
comment on function kronos.load_model is 'Loads a model ahead of its first use and returns its version.';

create function kronos.unload_model(model text, device text default null) returns boolean
language c volatile parallel unsafe
as 'MODULE_PATHNAME', 'unload_model_wrapper';
comment on function kronos.unload_model is 'Gives the memory of a model back; returns whether it was loaded.';

-- Those in the share directory of the server; runs again with every upgrade.
create function _kronos.register_built_in_models() returns integer
language c volatile parallel unsafe set search_path = pg_catalog, pg_temp
as 'MODULE_PATHNAME', 'register_built_in_models_wrapper';
comment on function _kronos.register_built_in_models is 'Registers the models that come with the extension; returns how many.';

do $$ begin perform _kronos.register_built_in_models(); end $$;

insert into _kronos.access (level, kind, object) values
  ('use', 'view', 'models'),
  ('operate', 'routine', 'load_model'),
  ('operate', 'routine', 'unload_model'),
  ('admin', 'routine', 'register_model'),
  ('admin', 'routine', 'set_alias'),
  ('admin', 'routine', 'drop_model');
