-- Calendars of instruments, from their bars.
call market.require_not_newer('market/calendars.sql', 2);

-- Who only ingests may not change instruments, and has no need to know the extension.
create or replace function market.learn_calendars(symbols text[]) returns integer
language plpgsql security definer set search_path = pg_catalog, pg_temp set timezone = 'UTC' set kronos.default_calendar = '24x7'
as $$
declare
  learnt integer := 0;
  changed integer;
  unknown text[];
  bars text;
begin
  -- Whoever may make a schema may call it kronos.
  if not exists (
    select from pg_depend d join pg_extension e on e.oid = d.refobjid and d.refclassid = 'pg_extension'::regclass
    where d.classid = 'pg_proc'::regclass and d.deptype = 'e' and e.extname = 'kronos'
      and d.objid = to_regprocedure('kronos.infer_calendar(regclass,text[],name,name,timestamptz)')) then
    return 0;
  end if;
  -- Hours say more than days, and fewer of them are needed.
  foreach bars in array '{market.bars_1m,market.bars_5m,market.bars_1h,market.bars_1d}'::text[] loop
    unknown := array(select i.symbol from market.instruments i where i.symbol = any (symbols) and i.calendar is null);
    exit when unknown = '{}';
    execute format('
      update market.instruments i set calendar = c.calendar
      from kronos.infer_calendar(%L::regclass, only_series => $1, series_col => ''symbol'', time_col => ''time'') c
      where i.symbol = c.series and i.calendar is null and c.calendar is not null', bars) using unknown;
    get diagnostics changed = row_count;
    learnt := learnt + changed;
  end loop;
  return learnt;
end
$$;
revoke execute on function market.learn_calendars(text[]) from public;
comment on function market.learn_calendars(text[]) is
  'Sets market.instruments.calendar of instruments without one whose stored bars tell it (kronos.infer_calendar); returns how many. Called by load and backfill.';

call market.record_file('market/calendars.sql', 2);
