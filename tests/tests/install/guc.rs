//! Settings: defaults, units, and who may set them.

use kronos_tests::Database;

#[test]
fn defaults_and_contexts_are_those_of_the_contract() {
    let db = Database::new("defaults_and_contexts");
    let settings = db.rows(
        "select kronos.version();
         select name, boot_val, context from pg_settings where name like 'kronos.%' order by name collate \"C\"",
    );
    let wanted = [
        ("kronos.allow_network", "off", "postmaster"),
        ("kronos.batch_window", "5", "sighup"),
        ("kronos.default_calendar", "24x7", "user"),
        ("kronos.default_model", "kronos-default", "user"),
        ("kronos.default_samples", "32", "user"),
        ("kronos.devices", "auto", "postmaster"),
        ("kronos.engine_timeout", "10000", "sighup"),
        ("kronos.gpu_precision", "float32", "sighup"),
        ("kronos.log_min_duration", "-1", "superuser"),
        ("kronos.max_cpu_memory", "50%", "sighup"),
        ("kronos.max_gpu_memory", "80%", "sighup"),
        ("kronos.max_horizon", "2048", "superuser"),
        ("kronos.max_queue", "1024", "sighup"),
        ("kronos.max_samples", "1000", "superuser"),
        ("kronos.max_series_per_call", "10000", "superuser"),
        ("kronos.model_dir", "$data/kronos", "postmaster"),
        ("kronos.request_timeout", "0", "user"),
        ("kronos.service", "on", "postmaster"),
        ("kronos.threads", "0", "superuser"),
        ("kronos.track", "all", "superuser"),
    ];
    let wanted: Vec<Vec<Option<String>>> = wanted
        .iter()
        .map(|(a, b, c)| vec![Some((*a).into()), Some((*b).into()), Some((*c).into())])
        .collect();
    assert_eq!(settings, wanted);
}

#[test]
fn files_devices_and_limits_are_not_for_users() {
    let db = Database::new("files_devices_and_limits");
    let role = db.role("someone");
    let mut client = db.connect_as(&role);
    client.batch_execute("select kronos.version(); set kronos.request_timeout = '2s'").unwrap();
    for (setting, code) in [
        ("kronos.model_dir = '/etc'", "55P02"),
        ("kronos.devices = 'cpu'", "55P02"),
        ("kronos.service = off", "55P02"),
        ("kronos.allow_network = on", "55P02"),
        ("kronos.max_gpu_memory = '1%'", "55P02"),
        ("kronos.gpu_precision = 'bfloat16'", "55P02"),
        ("kronos.max_cpu_memory = '100%'", "55P02"),
        ("kronos.max_horizon = 100000", "42501"),
        ("kronos.max_samples = 100000", "42501"),
        ("kronos.threads = 1000", "42501"),
    ] {
        db.error_in(&mut client, &format!("set {setting}")).is(code, "");
    }
    // Even a superuser cannot move the model directory of a running server.
    db.error("set kronos.model_dir = '/etc'").is("55P02", "kronos.model_dir");
}

#[test]
fn values_are_checked_and_have_units() {
    let db = Database::new("values_are_checked");
    assert_eq!(db.value("set kronos.request_timeout = '1500ms'; show kronos.request_timeout"), "1500ms");
    assert_eq!(db.value("set kronos.request_timeout = '1min'; show kronos.request_timeout"), "1min");
    db.error("set kronos.default_samples = 0").is("22023", "outside the valid range");
    db.error("set kronos.track = 'some'").is("22023", "kronos.track").hint("none, all");
    db.error("set kronos.defualt_model = 'x'").is("42602", "kronos.defualt_model");
    for (setting, wrong) in [
        ("max_gpu_memory", vec!["lots", "0%", "101%", "12", "-1GB", ""]),
        ("devices", vec!["gpu", "cuda:x", "cuda:0,", ""]),
        ("model_dir", vec!["relative", "", "$home/models"]),
    ] {
        for value in wrong {
            db.error(&format!("alter system set kronos.{setting} = '{value}'"))
                .is("22023", &format!("invalid value for parameter \"kronos.{setting}\""))
                .detail(".");
        }
    }
}
