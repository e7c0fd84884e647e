//! Every privilege that the extension and the set-up give, as a whole: a grant that nobody meant is a line too many.

use kronos_tests::{Database, project_root};
use std::collections::{BTreeMap, BTreeSet};

/// Who a column of the table stands for: everybody, the roles of the set-up, the levels of `kronos.grant_access`.
const GRANTEES: [&str; 7] = ["public", "reader", "ingestor", "operator", "use", "operate", "admin"];

/// Kind, object, grantee and privileges, in the letters of psql's `\dp`, of all that is not the owner's own.
const GRANTS: &str = "
    with schemas as (
      select * from pg_namespace
      where nspname in ('kronos', '_kronos', 'ledger', 'market', 'market_internal', 'trading', 'training')
    ), relations as (
      select c.* from pg_class c join schemas s on s.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S', 'f')
    ), objects (kind, object, owner, acl) as (
      select 'schema', nspname::text, nspowner, coalesce(nspacl, acldefault('n', nspowner)) from schemas
      union all
      select case relkind when 'v' then 'view' when 'm' then 'view' when 'S' then 'sequence' else 'table' end, oid::regclass::text, relowner,
             coalesce(relacl, acldefault(case relkind when 'S' then 's' else 'r' end::\"char\", relowner))
      from relations
      union all
      select 'column', format('%s.%I', a.attrelid::regclass, a.attname), r.relowner, a.attacl
      from pg_attribute a join relations r on r.oid = a.attrelid where a.attacl is not null
      union all
      select 'routine', p.oid::regprocedure::text, p.proowner, coalesce(p.proacl, acldefault('f', p.proowner))
      from pg_proc p join schemas s on s.oid = p.pronamespace
      union all
      select 'type', t.oid::regtype::text, t.typowner, t.typacl from pg_type t join schemas s on s.oid = t.typnamespace
      where t.typacl is not null
      union all
      select 'by default', format('%s of %s', d.defaclobjtype, coalesce(s.nspname, 'any schema')), d.defaclrole, d.defaclacl
      from pg_default_acl d left join pg_namespace s on s.oid = d.defaclnamespace
    )
    select o.kind, o.object, coalesce(r.rolname, 'public'),
           string_agg((case a.privilege_type when 'INSERT' then 'a' when 'SELECT' then 'r' when 'UPDATE' then 'w' when 'DELETE' then 'd'
                         when 'TRUNCATE' then 'D' when 'REFERENCES' then 'x' when 'TRIGGER' then 't' when 'USAGE' then 'U'
                         when 'CREATE' then 'C' when 'EXECUTE' then 'X' else a.privilege_type end)
                      || case when a.is_grantable then '*' else '' end, '' order by a.privilege_type)
    from objects o cross join lateral aclexplode(o.acl) a left join pg_roles r on r.oid = a.grantee
    where a.grantee <> o.owner
    group by 1, 2, 3";

/// Whose rights count beneath a view, in a function, and for a row.
const RIGHTS: &str = "
    with schemas as (
      select oid from pg_namespace
      where nspname in ('kronos', '_kronos', 'ledger', 'market', 'market_internal', 'trading', 'training')
    )
    select format('view      %s: %s', c.oid::regclass, array_to_string(c.reloptions, ', '))
    from pg_class c join schemas s on s.oid = c.relnamespace where c.relkind = 'v' and c.reloptions is not null
    union all
    select format('definer   %s: %s', p.oid::regprocedure, array_to_string(p.proconfig, ', '))
    from pg_proc p join schemas s on s.oid = p.pronamespace where p.prosecdef
    union all
    select format('rows      %s', c.oid::regclass)
    from pg_class c join schemas s on s.oid = c.relnamespace where c.relrowsecurity
    union all
    select regexp_replace(
      format('rows      %s, %s: %s %s using %s with check %s', p.polrelid::regclass, p.polname,
             case p.polcmd when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' when 'd' then 'delete' else 'all' end,
             case when p.polroles = '{0}' then 'by public' else p.polroles::regrole[]::text end,
             coalesce(pg_get_expr(p.polqual, p.polrelid), '-'), coalesce(pg_get_expr(p.polwithcheck, p.polrelid), '-')), '\\s+', ' ', 'g')
    from pg_policy p join pg_class c on c.oid = p.polrelid join schemas s on s.oid = c.relnamespace";

/// A line for each object that anybody may use, and for each right that is not the caller's own.
fn privileges(db: &Database, levels: &[(&str, String)]) -> Vec<String> {
    // Names with their schemas.
    let found = db.rows(&format!("set search_path = pg_catalog; {GRANTS}"));
    let mut objects: BTreeMap<(String, String), [String; GRANTEES.len()]> = BTreeMap::new();
    for row in found {
        let [kind, object, role, letters] = row.try_into().expect("four columns");
        let (role, letters) = (role.unwrap(), letters.unwrap());
        let level = levels.iter().find(|(_, made)| *made == role).map(|(level, _)| *level);
        let name = level.unwrap_or(role.strip_prefix("market_").unwrap_or(&role));
        let place = GRANTEES.iter().position(|grantee| *grantee == name);
        let place = place.unwrap_or_else(|| panic!("{role} may {letters} on {object:?}"));
        objects.entry((kind.unwrap(), object.unwrap())).or_default()[place] = letters;
    }
    let line = |object: &str, cells: [&str; GRANTEES.len()]| {
        let cells: String =
            cells.iter().map(|cell| format!("{:<9}", if cell.is_empty() { "-" } else { cell })).collect();
        format!("{cells}{object}")
    };
    let legend = "r select, a insert, w update, d delete, U usage, C create, X execute; w* may be passed on";
    let mut lines = vec![legend.to_owned(), String::new(), line("", GRANTEES)];
    for ((kind, object), cells) in &objects {
        lines.push(line(&format!("{kind} {object}"), cells.each_ref().map(String::as_str)));
    }
    let mut rights: Vec<String> =
        db.rows(&format!("set search_path = pg_catalog; {RIGHTS}")).into_iter().flatten().flatten().collect();
    rights.sort();
    lines.push(String::new());
    lines.extend(rights);
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

/// `KRONOS_PRIVILEGES_UPDATE=1` writes what is found in place of what was expected, for a person to read before commit.
#[test]
fn every_privilege_was_meant() {
    let db = Database::installed("every_privilege");
    let levels = ["use", "operate", "admin"].map(|level| (level, db.role(level)));
    for (level, role) in &levels {
        db.run(&format!("select kronos.grant_access('{role}', '{level}')"));
    }
    let found = privileges(&db, &levels);
    for (_, role) in &levels {
        db.run(&format!("drop owned by {role}"));
    }
    let file = project_root().join("tests/tests/security/access/privileges.txt");
    if std::env::var_os("KRONOS_PRIVILEGES_UPDATE").is_some() {
        std::fs::write(&file, found.join("\n") + "\n").unwrap();
        return;
    }
    let expected = std::fs::read_to_string(&file).unwrap();
    let expected: BTreeSet<&str> = expected.lines().collect();
    let found: BTreeSet<&str> = found.iter().map(String::as_str).collect();
    let surplus: Vec<_> = found.difference(&expected).collect();
    let missing: Vec<_> = expected.difference(&found).collect();
    assert!(
        surplus.is_empty() && missing.is_empty(),
        "{} of {:?}\ngiven and not expected: {surplus:#?}\nexpected and not given: {missing:#?}",
        file.display(),
        GRANTEES
    );
}
