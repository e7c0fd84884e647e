//! A new family is a folder and a row of a table: this one is neither known to the engine nor to anything else of the project.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/mod.rs"]
mod support;
mod toy;

use kronos_engine::answer::Answer;
use kronos_engine::core::Origin;
use kronos_engine::fault::Fault;
use kronos_engine::message::{ModelSource, Refusal, Request, Settings};
use kronos_models::answer::{Forecast, Paths};
use kronos_models::ask::{Ask, Drawing, Terms, Wanted};
use kronos_models::families::FAMILIES;
use kronos_models::family::{Directory, Families};
use std::collections::BTreeMap;
use std::path::Path;
use support::{Engine, columns, described_by};
use toy::Toy;

/// The table of the library with one row more.
const TABLE: Families = &[FAMILIES[0], &Toy];

/// A model of the family in a folder of its own.
fn model() -> (tempfile::TempDir, ModelSource) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), r#"{"model_type": "toy", "slope": 0.5}"#).unwrap();
    let source = described_by(&Toy, "toy@1", folder.path(), &[], None);
    (folder, source)
}

fn engine(folder: &Path, families: Families) -> Engine {
    let settings = Settings { model_dir: folder.into(), ..support::settings() };
    Engine::of(settings, Origin { families, ..support::ORIGIN })
}

fn paths(samples: u32) -> Terms {
    let drawing = Drawing { samples, temperature: 1.0, top_k: 0, top_p: 1.0, slide: false };
    Terms { context: 100, cross_learning: None, wanted: Wanted::Paths(drawing) }
}

fn request(model: &ModelSource, series: Vec<Ask>, terms: Terms) -> Request {
    Request::Forecast { model: model.clone(), series, terms }
}

#[test]
fn an_engine_with_its_row_serves_it() {
    let (folder, model) = model();
    let engine = engine(folder.path(), TABLE);
    let pair = columns(vec![vec![1.0, 4.0], vec![2.0, 8.0]], 2);
    let empty = columns(vec![Vec::new()], 3);
    let answer = engine.ask(&request(&model, vec![pair, empty], paths(2))).unwrap();
    let Answer::Series(mut series) = answer else { panic!("{answer:?}") };
    let refused = series.pop().unwrap().unwrap_err();
    assert!(refused.to_string().contains("context has 0 points"), "{refused}");
    // Two paths of two steps, both channels of a step together: half a unit a step, and the second path lies one higher.
    let values = vec![4.5, 8.5, 5.0, 9.0, 5.5, 9.5, 6.0, 10.0];
    let expected = Paths { channels: 2, horizon: 2, values, context_used: 2 };
    assert_eq!(series.pop().unwrap().unwrap(), Forecast::Paths(expected));
    let status = engine.until("the answer gave its memory back", |status| {
        status.devices[0].used_bytes == status.models[0].memory_bytes
    });
    let counters = &status.models[0].counters;
    assert_eq!((counters.calls, counters.series, counters.rows, counters.errors), (1, 2, 2, 1));
}

#[test]
fn paths_that_no_memory_holds_are_refused_before_they_are_drawn() {
    let (folder, model) = model();
    let settings = Settings { memory: 1 << 20, model_dir: folder.path().into(), ..support::settings() };
    let engine = Engine::of(settings, Origin { families: TABLE, ..support::ORIGIN });
    let ask = columns(vec![vec![1.0]], 1000);
    let answer = engine.ask(&request(&model, vec![ask.clone()], paths(1000))).unwrap();
    let Answer::Series(series) = answer else { panic!("{answer:?}") };
    assert!(series[0].as_ref().unwrap_err().to_string().contains("8000"), "{series:?}");
    assert!(engine.ask(&request(&model, vec![ask], paths(10))).is_ok());
}

#[test]
fn what_it_does_not_answer_is_refused() {
    let (folder, model) = model();
    let engine = engine(folder.path(), TABLE);
    let terms = Terms { wanted: Wanted::Quantiles(vec![0.5]), ..paths(1) };
    let refused = engine.ask(&request(&model, vec![columns(vec![vec![1.0]], 1)], terms)).unwrap_err();
    assert!(
        matches!(&refused, Refusal::Protocol { reason } if reason.contains("another kind")),
        "{refused:?}"
    );
}

#[test]
fn a_family_without_a_row_is_an_error_that_names_those_there_are() {
    let (folder, model) = model();
    let refused = engine(folder.path(), FAMILIES).ask(&Request::Load(model)).unwrap_err();
    let Refusal::Model(Fault::UnknownFamily { family, known }) = &refused else { panic!("{refused:?}") };
    assert_eq!(family, "toy");
    assert_eq!(known.len(), FAMILIES.len());
}

#[test]
fn settings_of_another_family_are_refused() {
    let (folder, mut model) = model();
    for damaged in ["{}", "[1]", "no JSON"] {
        model.settings = damaged.into();
        let refused = engine(folder.path(), TABLE).ask(&Request::Load(model.clone())).unwrap_err();
        let Refusal::Model(Fault::InvalidParameter { name, .. }) = &refused else { panic!("{refused:?}") };
        assert_eq!(name, "settings");
    }
}

#[test]
fn its_configuration_is_recognised_by_it_alone() {
    let (folder, _) = model();
    let parts = BTreeMap::new();
    let directory = Directory { path: folder.path(), parts: &parts, locate: &Path::to_path_buf };
    assert_eq!(directory.recognise(TABLE).unwrap().unwrap().facts().name, "toy");
    assert!(directory.recognise(FAMILIES).unwrap().is_none());
}
