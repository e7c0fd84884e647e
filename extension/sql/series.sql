-- What the series of a relation are.

create function kronos.list_series(
  relation regclass, series_col name default null, time_col name default null, value_cols name[] default '{}')
returns setof text
language c stable parallel restricted cost 1000 rows 100
as 'MODULE_PATHNAME', 'list_series_wrapper';
comment on function kronos.list_series is
  'Keys of the series of a relation, found as the forecast functions find them; one NULL where all rows are one series. value_cols '
  'names columns that are no keys.';

insert into _kronos.access (level, kind, object) values ('use', 'routine', 'list_series');
