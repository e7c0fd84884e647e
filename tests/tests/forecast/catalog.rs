//! Registering, naming, loading and dropping models.

use kronos_tests::Database;
use std::path::{Path, PathBuf};

/// A copy of the fixture model in the server's model directory, removed at the end of the test.
struct ModelCopy {
    name: String,
    path: PathBuf,
}

impl ModelCopy {
    fn new(db: &Database, name: &str) -> Self {
        let models = PathBuf::from(db.value("show kronos.model_dir"));
        // Tests of other processes share the directory.
        let name = format!("{name}-{}", db.name());
        let path = models.join(&name);
        copy_folder(&models.join("kronos-fixture"), &path);
        Self { name, path }
    }

    fn weights(&self) -> PathBuf {
        self.path.join("predictor/model.safetensors")
    }

    fn register(&self) -> String {
        format!("select kronos.register_model('m', 'kronos', '{}')", self.name)
    }
}

impl Drop for ModelCopy {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.path).expect("the copy can be removed");
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("the server's model directory is writable");
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            std::fs::write(target, std::fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_version_is_its_content() {
    let db = Database::new("a_version_is_its_content");
    let first = db.value("select kronos.register_model('m', NULL, 'kronos-fixture')");
    assert!(first.starts_with("m@") && first.len() == 2 + 12, "{first}");
    assert_eq!(db.value("select family from kronos.models where name = 'm'"), "kronos");
    assert_eq!(db.value("select kronos.register_model('m', 'kronos', 'file:kronos-fixture')"), first);
    assert_eq!(db.value("select count(*) from kronos.models where name = 'm'"), "1");

    // The same files elsewhere are the same version; another window gives other numbers, so it is another one.
    let copy = ModelCopy::new(&db, "copy");
    assert_eq!(db.value(&copy.register()), first);
    assert_eq!(db.value("select uri from kronos.models where name = 'm'"), copy.name);
    let other = db.value(
        "select kronos.register_model('m', 'kronos', 'kronos-fixture', options => '{\"max_context\":64}')",
    );
    assert_ne!(other, first);
    let cool = |temperature: f64| {
        db.value(&format!(
            "select kronos.register_model('cool', 'kronos', 'kronos-fixture', options => '{{\"temperature\":{temperature}}}')"
        ))
    };
    assert_eq!(cool(0.5), cool(0.5));
    assert_ne!(cool(0.5), cool(0.6));
    db.error("select kronos.load_model('m')").is("42P08", "model \"m\" has several versions").hint(&first);
    assert_eq!(db.value(&format!("select kronos.load_model('{}')", &first[..8])), first);
    assert_eq!(db.value(&format!("select kronos.load_model('{other}', 'cpu')")), other);
}

#[test]
fn what_a_file_holds_is_what_was_registered() {
    let db = Database::new("what_a_file_holds");
    let copy = ModelCopy::new(&db, "pinned");
    let sha256 = db.value("select sha256 from kronos.models where name = 'kronos-fixture'");
    let version =
        db.value(&format!("select kronos.register_model('m', 'kronos', '{}', upper('{sha256}'))", copy.name));
    let wrong = "0".repeat(64);
    db.error(&format!("select kronos.register_model('n', 'kronos', '{}', '{wrong}')", copy.name))
        .is("XX001", "does not match its checksum")
        .detail(&format!("Expected sha256 {wrong}, the file has {sha256}."));
    db.error(&format!("select kronos.register_model('n', 'kronos', '{}', 'abc')", copy.name))
        .is("22023", "sha256 must be a SHA-256 of 64 hexadecimal digits");
    db.error(&format!(
        "select kronos.register_model('n', 'kronos', '{}', options => '{{\"tokenizer_sha256\":\"{wrong}\"}}')",
        copy.name
    ))
    .is("XX001", "tokenizer/model.safetensors");

    // One byte changes behind the catalogue's back.
    let mut bytes = std::fs::read(copy.weights()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(copy.weights(), &bytes).unwrap();
    // Registering loaded the model into the engine that all sessions share; what is loaded is not read again.
    db.value(&format!("select kronos.unload_model('{version}')"));
    db.error(&format!("select kronos.load_model('{version}')"))
        .is("XX001", "does not match its checksum")
        .detail(&sha256);
    let check = db.rows("select ok, detail from kronos.diagnostics() where \"check\" = 'weights'");
    assert_eq!(check[0][0].as_deref(), Some("f"));
    assert!(check[0][1].as_deref().unwrap().contains(&sha256), "{check:?}");

    std::fs::remove_file(copy.weights()).unwrap();
    db.error(&format!("select kronos.load_model('{version}')"))
        .is("58P01", "predictor/model.safetensors\": file does not exist")
        .hint(&sha256);
}

#[test]
fn a_version_is_never_replaced_by_another_that_shares_its_digits() {
    let db = Database::new("a_version_is_never_replaced");
    let register =
        |more: &str| format!("select kronos.register_model('m', 'kronos', 'kronos-fixture'{more})");
    let version = db.value(&register(""));
    let entry = || db.rows("select * from _kronos.model where name = 'm'");
    let taken = |more: &str, by: &str| {
        let before = entry();
        db.error(&register(more))
            .is("42710", &format!("model version \"{version}\" is registered already, with {by}"))
            .hint("drop_model");
        assert_eq!(entry(), before);
    };
    // What was not said is added, what was said stays.
    assert_eq!(db.value(&register(", train_cutoff => '2024-06-30', license => 'MIT'")), version);
    for more in ["", ", train_cutoff => '2024-06-30'", ", license => 'MIT'"] {
        assert_eq!(db.value(&register(more)), version);
        assert_eq!(
            db.value("select train_cutoff || license from kronos.models where name = 'm'"),
            "2024-06-30MIT"
        );
    }
    taken(", train_cutoff => '2020-01-01'", "another train_cutoff");
    taken(", license => 'GPL'", "another license");
    // Twelve digits can be met on purpose: as if the trusted model were one of other files, of one more, of another window.
    for other in [
        "files = (select jsonb_object_agg(k, overlay(v placing 'f00' from 62)) from jsonb_each_text(files) e(k, v))",
        "files = files || jsonb_build_object('x/extra.json', repeat('0', 64))",
        "files = '{}'",
        "settings = settings || '{\"max_context\": 64}'",
        "settings = settings || '{\"temperature\": 0.5}'",
        "family = 'chronos2'",
    ] {
        db.run(&format!(
            "create table kept as table _kronos.model; update _kronos.model set {other} where name = 'm'"
        ));
        taken("", "other files");
        db.run(
            "update _kronos.model m set files = k.files, settings = k.settings, family = k.family from kept k where k.version = m.version;
             drop table kept",
        );
    }
    assert_eq!(db.value(&register("")), version);
}

#[test]
fn a_model_of_the_installation_stays_where_it_is() {
    let db = Database::new("a_model_of_the_installation");
    let uri = db.value("select uri from kronos.models where name = 'kronos-nano'");
    let share = db.value("select setting from pg_config where name = 'SHAREDIR'");
    let copy = ModelCopy::new(&db, "nano");
    std::fs::remove_dir_all(&copy.path).unwrap();
    copy_folder(&Path::new(&share).join(uri.replace("$share", "kronos")), &copy.path);
    let entry = || db.rows("select * from _kronos.model where name = 'kronos-nano'");
    let before = entry();
    let register = format!(
        "select kronos.register_model('kronos-nano', 'kronos', '{}', options => settings - 'predictor' - 'tokenizer') = version
         from kronos.models where built_in and name = 'kronos-nano'",
        copy.name
    );
    assert_eq!(db.value(&register), "t");
    assert_eq!(entry(), before, "a copy of its files is no other model, and no other place of it");
}

#[test]
fn a_broken_artifact_is_refused_at_once() {
    let db = Database::new("a_broken_artifact");
    let copy = ModelCopy::new(&db, "broken");
    let config = copy.path.join("predictor/config.json");
    let good = std::fs::read_to_string(&config).unwrap();
    let weights = std::fs::read(copy.weights()).unwrap();

    std::fs::write(copy.weights(), &weights[..weights.len() / 2]).unwrap();
    db.error(&copy.register()).is("XX001", "model.safetensors\" is not a valid artifact");
    std::fs::write(copy.weights(), &weights).unwrap();
    std::fs::write(&config, "{").unwrap();
    db.error(&copy.register()).is("XX001", "config.json\" is not a valid artifact");
    std::fs::write(&config, good.replace("\"n_layers\": 3", "\"n_layers\": 4")).unwrap();
    db.error(&copy.register()).is("XX001", "model.safetensors\" is not a valid artifact");
    std::fs::write(&config, good).unwrap();
    std::fs::remove_dir_all(copy.path.join("tokenizer")).unwrap();
    db.error(&copy.register())
        .is("58P01", "tokenizer/config.json\": file does not exist")
        .hint("options => '{\"tokenizer\":\"Kronos-Tokenizer-base\"}'");
    assert_eq!(db.value("select count(*) from kronos.models where name = 'm'"), "0");

    let elsewhere = format!(
        "select kronos.register_model('m', 'kronos', '{}', options => '{{\"tokenizer\":\"kronos-fixture/tokenizer\"}}')",
        copy.name
    );
    assert!(db.value(&elsewhere).starts_with("m@"));
}

#[test]
fn a_model_lies_under_the_model_directory() {
    let db = Database::new("a_model_lies_under");
    let models = db.value("show kronos.model_dir");
    for (uri, reason) in [
        ("/etc", "is outside kronos.model_dir"),
        ("../data", "is outside kronos.model_dir"),
        ("kronos-fixture/../../data", "is outside kronos.model_dir"),
        ("file:///etc", "is outside kronos.model_dir"),
        ("https://example.com/m", "is not a directory of this server"),
        ("", "is empty"),
    ] {
        db.error(&format!("select kronos.register_model('m', 'kronos', '{uri}')"))
            .is("22023", reason)
            .hint("relative to kronos.model_dir");
    }
    db.error("select kronos.register_model('m', 'kronos', 'nowhere')").is("58P01", "nowhere/config.json");
    db.error("select kronos.register_model('m', NULL, 'kronos-fixture/tokenizer')")
        .is("22023", "no known family");
    db.error("select kronos.register_model('m', 'kronos', 'kronos-fixture/tokenizer')")
        .is("22023", "is a tokenizer");
    db.error("select kronos.register_model('m', 'krons', 'kronos-fixture')")
        .is("42704", "model family \"krons\" does not exist")
        .hint("Did you mean \"kronos\"?");
    db.error("select kronos.register_model('m@1', 'kronos', 'kronos-fixture')")
        .is("22023", "model name must be");
    db.error("select kronos.register_model(NULL, 'kronos', 'kronos-fixture')")
        .is("22004", "name must not be null");
    db.error(
        "select kronos.register_model('m', 'kronos', 'kronos-fixture', options => '{\"tokeniser\":\"x\"}')",
    )
    .is("22023", "unrecognized option \"tokeniser\"")
    .hint("Did you mean \"tokenizer\"? Valid options: \"max_context\"");
    db.error(
        "select kronos.register_model('m', 'kronos', 'kronos-fixture', options => '{\"max_context\":0}')",
    )
    .is("22023", "option \"max_context\" must be an integer from 2");
    assert!(
        db.value(&format!("select kronos.register_model('m', 'kronos', '{models}/kronos-fixture')"))
            .starts_with("m@")
    );
}

#[test]
fn aliases_move_only_when_told() {
    let db = Database::new("aliases_move");
    let register = |window: u32| {
        db.value(&format!(
            "select kronos.register_model('m', 'kronos', 'kronos-fixture', options => '{{\"max_context\":{window}}}')"
        ))
    };
    let old = register(64);
    assert_eq!(db.value("select kronos.set_alias('house', 'm')"), old);
    let new = register(65);
    assert_eq!(db.value("select kronos.load_model('house')"), old);
    db.error("select kronos.set_alias('house', 'm')").is("42P08", "several versions");
    assert_eq!(db.value(&format!("select kronos.set_alias('house', '{new}')")), new);
    assert_eq!(
        db.value("select aliases from kronos.models where name = 'm' order by registered_at desc limit 1"),
        "{house}"
    );

    db.error("select kronos.set_alias('m', 'house')")
        .is("42710", "alias \"m\" is already the name of a model");
    db.error("select kronos.register_model('house', 'kronos', 'kronos-fixture')")
        .is("42710", "\"house\" is already");
    db.error("select kronos.set_alias('x', 'kronos-fixtur')")
        .is("42704", "does not exist")
        .hint("kronos-fixture");
    db.error("select kronos.set_alias('hause', NULL)")
        .is("42704", "alias \"hause\"")
        .hint("Did you mean \"house\"?");

    db.error(&format!("select kronos.drop_model('{new}')"))
        .is("2BP01", "because an alias refers to it")
        .detail("\"house\"")
        .hint("kronos.set_alias");
    db.run(&format!("select kronos.set_alias('house', NULL); select kronos.drop_model('{new}')"));
    db.error("select kronos.drop_model('house')").is("42704", "model \"house\" does not exist");
    db.run("select kronos.drop_model('m'); select kronos.drop_model('m', if_exists => true)");
    assert_eq!(db.value("select count(*) from kronos.models where name = 'm'"), "0");
}

#[test]
fn loading_names_what_is_wrong() {
    let db = Database::new("loading");
    let version = db.value("select kronos.load_model('kronos-default')");
    assert!(version.starts_with("kronos-fixture@"));
    assert_eq!(db.value("select kronos.load_model(NULL)"), version);
    let mut client = db.connect();
    let loaded = kronos_tests::rows(
        &mut client,
        "select kronos.load_model('kronos-fixture');
         select kronos.unload_model('kronos-fixture') and not kronos.unload_model('kronos-fixture', 'cpu')",
    );
    assert_eq!(loaded[0][0].as_deref(), Some("t"));
    db.error("select kronos.load_model('kronos-fixtrue')")
        .is("42704", "model \"kronos-fixtrue\" does not exist")
        .hint("Did you mean \"kronos-fixture\"? See kronos.models.");
    db.error("select kronos.load_model('kronos-fixture@0')")
        .is("42704", "does not exist")
        .hint("See kronos.models.");
    db.error("select kronos.load_model('kronos-fixture', 'cuda:0')")
        .is("0A000", "device \"cuda:0\" is not supported");
    db.error("set kronos.default_model = 'gone'; select kronos.load_model(NULL)")
        .is("42704", "model \"gone\"");
}

#[test]
fn a_rolled_back_registration_leaves_nothing() {
    let db = Database::new("rolled_back");
    db.run("begin; select kronos.register_model('m', 'kronos', 'kronos-fixture'); rollback");
    db.error("select kronos.load_model('m')").is("42704", "model \"m\" does not exist");
    db.error("begin read only; select kronos.register_model('m', 'kronos', 'kronos-fixture')")
        .is("25006", "read-only");
    db.run("begin read only; select kronos.load_model('kronos-fixture'); commit");
}
