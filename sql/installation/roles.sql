-- Three group roles, without login: people and the worker are made members of them.
call market.require_not_newer('installation/roles.sql', 1);

do $$
declare
  role_name text;
begin
  foreach role_name in array array['market_reader', 'market_ingestor', 'market_operator'] loop
    if not exists (select from pg_catalog.pg_roles where rolname = role_name) then
      begin
        execute format('create role %I nologin', role_name);
      exception
        -- Two databases of one cluster may be set up at the same time; roles are shared between them.
        when duplicate_object or unique_violation then null;
        when insufficient_privilege then
          raise warning 'role "%" does not exist and cannot be created by "%"', role_name, current_user
            using hint = 'A role with CREATEROLE can create it; then run the set-up again.';
      end;
    end if;
  end loop;
end
$$;

call market.record_file('installation/roles.sql', 1);
