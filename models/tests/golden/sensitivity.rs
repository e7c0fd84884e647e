//! Parity that cannot fail proves nothing: one wrong number in a copy of the golden vectors must be found, where it is.
//!
//! A copy holds the networks and what the number can show in, and no other case: all of them are right, as
//! [`the_sets_in_the_project`](super::the_sets_in_the_project) proves, and would only be computed again for every number.

use super::{folder, in_project};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// The networks, which every copy holds.
const NETWORKS: [&str; 3] = ["tiny55/predictor", "tiny55/tokenizer", "fixedte55/predictor"];

/// The stages of a window of the first set.
const STAGES: &str = "tiny55/stages.safetensors";

/// A copy of the networks among the project's golden vectors, and of `files`.
fn copy(files: &[&str]) -> TempDir {
    let copy = TempDir::new().unwrap();
    for path in NETWORKS.iter().chain(files) {
        copy_into(&in_project().join(path), &copy.path().join(path));
    }
    copy
}

fn copy_into(from: &Path, to: &Path) {
    if from.is_dir() {
        for entry in fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            copy_into(&entry.path(), &to.join(entry.file_name()));
        }
    } else {
        fs::create_dir_all(to.parent().unwrap()).unwrap();
        fs::copy(from, to).unwrap();
    }
}

/// The two files of a case.
fn case_files(set: &str, case: &str) -> [String; 2] {
    ["json", "safetensors"].map(|extension| format!("{set}/cases/{case}.{extension}"))
}

/// Changes the largest value of a tensor in place.
fn change(file: &Path, tensor: &str, change: fn(f32) -> f32) {
    let mut bytes = fs::read(file).unwrap();
    let (at, value) = {
        let view = SafeTensors::deserialize(&bytes).unwrap().tensor(tensor).unwrap();
        let start = view.data().as_ptr() as usize - bytes.as_ptr() as usize;
        let values = view.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
        let (index, value) = values.enumerate().max_by(|a, b| a.1.abs().total_cmp(&b.1.abs())).unwrap();
        (start + 4 * index, value)
    };
    bytes[at..at + 4].copy_from_slice(&change(value).to_le_bytes());
    fs::write(file, bytes).unwrap();
}

/// Asserts that the first deviation of a folder is in that case and stage.
fn assert_found(folder: &Path, what: &str, case: &str, stage: &str) {
    let report = folder::run(folder);
    let row = report.first_deviation().unwrap_or_else(|| panic!("{what} was not noticed"));
    assert_eq!((row.case.as_str(), row.stage.as_str()), (case, stage), "{what}");
}

#[test]
fn one_wrong_weight_is_found_at_its_stage() {
    const WINDOW: &str = "stages, window 0";
    for (half, tensor, stage) in [
        ("tokenizer", "embed.weight", "tok.embed"),
        ("tokenizer", "encoder.1.self_attn.k_proj.weight", "tok.encoder.1"),
        ("tokenizer", "encoder.2.norm2.weight", "tok.encoder.2"),
        ("tokenizer", "quant_embed.bias", "tok.quant_embed"),
        ("tokenizer", "decoder.1.ffn.w3.weight", "tok.decoder.1"),
        ("tokenizer", "head.weight", "tok.recon"),
        ("predictor", "embedding.fusion_proj.weight", "pred.token_emb"),
        ("predictor", "transformer.0.self_attn.q_proj.bias", "pred.block.0.q_rot"),
        ("predictor", "transformer.0.self_attn.out_proj.bias", "pred.block.0.attn"),
        ("predictor", "transformer.2.ffn.w2.weight", "pred.block.2"),
        ("predictor", "dep_layer.cross_attn.v_proj.weight", "pred.dep.attn"),
        ("predictor", "dep_layer.norm.weight", "pred.dep.out"),
        ("predictor", "head.proj_s1.weight", "pred.s1_logits"),
        ("predictor", "head.proj_s2.bias", "pred.s2_logits"),
    ] {
        let copy = copy(&[STAGES]);
        let file = copy.path().join("tiny55").join(half).join("model.safetensors");
        change(&file, tensor, |value| -value);
        assert_found(copy.path(), tensor, WINDOW, stage);
    }
}

#[test]
fn one_wrong_expectation_is_found() {
    for (set, case, stage) in [
        ("tiny55", "greedy_slide", "s2_logits"),
        ("tiny55", "replay_top_p", "decoded_window"),
        ("tiny55", "replay_top_k", "s1_probs"),
        ("fixedte55", "greedy_fit", "s1_logits"),
    ] {
        let [description, expected] = case_files(set, case);
        let copy = copy(&[&description, &expected]);
        change(&copy.path().join(&expected), stage, |value| value * 1.001);
        assert_found(copy.path(), &expected, case, stage);
    }
}

#[test]
fn one_wrong_input_bar_is_found() {
    let [description, expected] = case_files("tiny55", "greedy_fit");
    let copy = copy(&[&description, &expected]);
    let file = copy.path().join(&description);
    let mut case: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    case["series"][0]["x_timestamp"][39] = "2024-02-19 23:55:00".into();
    fs::write(&file, case.to_string()).unwrap();
    assert_found(copy.path(), "another time of the last bar", "greedy_fit", "s1_logits");
}

#[test]
fn a_stage_the_model_never_shows_is_found() {
    const STAGES: &str = "fixedte55/stages.safetensors";
    let copy = copy(&[STAGES]);
    let file = copy.path().join(STAGES);
    let mut tensors = folder::tensors(&file);
    let unknown = tensors["pred.norm"].clone();
    tensors.insert("pred.invented".into(), unknown);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert_found(copy.path(), "a new stage", "stages, window 0", "pred.invented");
}
