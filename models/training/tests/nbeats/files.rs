//! The files of a model: written by the trainer, read strictly.

use super::{ALL, config, model, panel, task};
use candle_core::Device;
use kronos_models::ModelError;
use kronos_models::interrupt::NeverInterrupt;
use kronos_models::nbeats::NBeats;
use kronos_models::series::SeriesRequest;
use kronos_training::artifact::{self, DataNote, Draft, Manifest};
use serde_json::{Value, json};
use std::path::Path;

fn written(root: &Path) -> (artifact::Version, NBeats) {
    let task = task(&config(&ALL), panel(1, 100), 0.0);
    let manifest = Manifest {
        name: "small".into(),
        family: "nbeats".into(),
        train_cutoff: None,
        licence: "Apache-2.0".into(),
        data: DataNote::default(),
        seed: 0,
        command: String::new(),
        options: Default::default(),
        files: Default::default(),
    };
    let draft = Draft {
        manifest,
        weights: "model.safetensors".into(),
        files: task.files().unwrap(),
        metrics: json!({}),
    };
    (draft.write(root).unwrap(), model(&task))
}

#[test]
fn a_written_model_is_read_with_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let (version, written) = written(folder.path());
    let read = NBeats::load(&version.directory, &Device::Cpu).unwrap();
    let history = panel(1, 60).series.remove(0).values.remove(0);
    let forecast = |model: &NBeats| {
        model
            .forecast(&[SeriesRequest::univariate(history.clone(), 3)], &NeverInterrupt)
            .unwrap()
            .remove(0)
            .unwrap()
    };
    assert_eq!(forecast(&read), forecast(&written));
    assert!(read.memory_bytes() > 0);
}

#[test]
fn damaged_configurations_are_refused_by_key() {
    let folder = tempfile::tempdir().unwrap();
    let (version, _) = written(folder.path());
    let refused = |file: &str, change: &dyn Fn(&mut Value)| {
        let path = version.directory.join(file);
        let good = std::fs::read_to_string(&path).unwrap();
        let mut value: Value = serde_json::from_str(&good).unwrap();
        change(&mut value);
        std::fs::write(&path, value.to_string()).unwrap();
        let error = NBeats::load(&version.directory, &Device::Cpu).unwrap_err();
        std::fs::write(&path, good).unwrap();
        assert!(matches!(error, ModelError::ArtifactCorrupt { .. }), "{error}");
        error.to_string()
    };
    for (expected, change) in [
        ("model_type", &(|c: &mut Value| c["model_type"] = json!("other")) as &dyn Fn(&mut Value)),
        ("context_length", &|c| c["context_length"] = json!(1_000_000_000)),
        ("horizon", &|c| c["horizon"] = json!(0)),
        ("quantile_levels", &|c| c["quantile_levels"] = json!([0.9, 0.1])),
        ("growth", &|c| c["growth"] = json!(2.0)),
        ("width", &|c| c["stacks"][0]["width"] = json!(1u64 << 40)),
        ("blocks", &|c| c["stacks"][1]["blocks"] = json!(0)),
        ("degree", &|c| c["stacks"][1]["harmonics"] = json!(1)),
        ("degree or harmonics", &|c| c["stacks"][0]["degree"] = json!(1)),
        ("harmonics", &|c| c["stacks"][2]["harmonics"] = Value::Null),
        ("unknown field", &|c| c["extra"] = json!(1)),
        // Consistent with itself, but not with the tensors.
        ("shape", &|c| c["stacks"][0]["width"] = json!(17)),
        ("missing", &|c| c["stacks"][0]["blocks"] = json!(3)),
        ("unexpected", &|c| c["stacks"][0]["blocks"] = json!(1)),
    ] {
        let message = refused("config.json", change);
        assert!(message.contains(expected), "{expected}: {message}");
    }
    assert!(refused("scaler.json", &|s| s["floor"] = json!(0.0)).contains("floor"));
    assert!(refused("scaler.json", &|s| s["loc"] = json!("mean")).contains("loc"));
    std::fs::remove_file(version.directory.join("scaler.json")).unwrap();
    assert!(matches!(
        NBeats::load(&version.directory, &Device::Cpu).unwrap_err(),
        ModelError::ArtifactMissing { .. }
    ));
}
