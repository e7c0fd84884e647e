//! Who the worker is in the database.
//!
//! It runs nothing of those who ask for models: their rows were copied when they asked, in their own session. So it needs little, and a
//! worker that may do everything would be the prize of whatever mistake is left.

use crate::error::{Error, Result};
use postgres::Client;

/// What makes the role that a worker logs in as.
const HINT: &str = "Let a superuser run: create role kronos_worker login; select kronos.grant_training_worker('kronos_worker');";

/// Refuses a connection whose role may do everything, or not what a worker does.
///
/// # Errors
/// [`Error::Worker`].
pub(super) fn check(client: &mut Client) -> Result<()> {
    let refused = |reason: String| Err(Error::Worker { reason, hint: HINT });
    // Both, since a connection may begin in the role of another; and what either may become.
    let sql = "select u.rolname::text, r.rolname::text, r.rolsuper
               from pg_roles u join pg_roles r on pg_has_role(u.oid, r.oid, 'MEMBER')
               where u.rolname in (session_user, current_user) and (r.rolsuper or r.rolbypassrls)
               order by u.rolname <> r.rolname, not r.rolsuper limit 1";
    if let Some(row) = client.query_opt(sql, &[])? {
        let (role, powerful, superuser): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let what = if superuser { "a superuser" } else { "a role that row security does not bind" };
        return refused(match role == powerful {
            true => format!("the worker must not log in as \"{role}\", {what}"),
            false => {
                format!("the worker must not log in as \"{role}\", which can become \"{powerful}\", {what}")
            }
        });
    }
    // Found by the catalogue: names are looked up for those only who may use the schema.
    let sql = "select has_table_privilege(s.oid, 'SELECT') and has_table_privilege(s.oid, 'DELETE')
                        and has_column_privilege(j.oid, 'attempts', 'UPDATE') and has_function_privilege(p.oid, 'EXECUTE')
                        and has_schema_privilege(s.relnamespace, 'USAGE')
               from pg_class s join pg_class j on j.relnamespace = s.relnamespace and j.relname = 'jobs', pg_proc p
               where s.relnamespace = to_regnamespace('training') and s.relname = 'series'
                 and p.pronamespace = to_regnamespace('_kronos') and p.proname = 'model_directories'";
    match client.query_opt(sql, &[])?.map(|row| row.get::<_, Option<bool>>(0)) {
        Some(Some(true)) => Ok(()),
        Some(_) => refused("the role of the worker may not run training jobs".into()),
        None => Err(Error::Worker {
            reason: "the database has no queue of training jobs, or that of an older version".into(),
            hint: "CALL kronos.install(); and then grant the role of the worker its privileges with \
                   kronos.grant_training_worker().",
        }),
    }
}
