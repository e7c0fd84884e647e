-- What a view passes on means what it means where it comes from: its columns have the comments of the columns that they show.
call market.require_not_newer('installation/comments.sql', 1);

do $$
declare
  item record;
  more boolean;
begin
  -- A view of a view has its comments in the next round.
  loop
    more := false;
    for item in
      select c.oid::regclass as view, a.attname as name, min(s.description) as description
      from pg_class c
      join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      join pg_rewrite w on w.ev_class = c.oid and w.ev_type = '1'
      join pg_depend d on d.classid = 'pg_rewrite'::regclass and d.objid = w.oid
        and d.refclassid = 'pg_class'::regclass and d.refobjid <> c.oid and d.refobjsubid > 0
      join pg_attribute t on t.attrelid = d.refobjid and t.attnum = d.refobjsubid and t.attname = a.attname
      join pg_description s on s.classoid = 'pg_class'::regclass and s.objoid = d.refobjid and s.objsubid = d.refobjsubid
      where c.relkind in ('v', 'm') and c.relnamespace::regnamespace::text = any ('{kronos,ledger,market,trading,training}'::text[])
        and pg_has_role(c.relowner, 'USAGE') and col_description(c.oid, a.attnum) is null
      group by c.oid, a.attname
      having count(distinct s.description) = 1
    loop
      execute format('comment on column %s.%I is %L', item.view, item.name, item.description);
      more := true;
    end loop;
    exit when not more;
  end loop;
end
$$;

call market.record_file('installation/comments.sql', 1);
