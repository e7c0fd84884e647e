//! Parity that cannot fail proves nothing: one wrong number in a copy of the folder must be found, where it is.

use super::{folder, in_project};
use safetensors::SafeTensors;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// A copy of the project's golden vectors.
fn copy() -> TempDir {
    let copy = TempDir::new().unwrap();
    copy_into(&in_project(), copy.path());
    copy
}

fn copy_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_into(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
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
        let copy = copy();
        let file = copy.path().join("tiny55").join(half).join("model.safetensors");
        change(&file, tensor, |value| -value);
        assert_found(copy.path(), tensor, WINDOW, stage);
    }
}

#[test]
fn one_wrong_expectation_is_found() {
    for (file, tensor, case, stage) in [
        ("tiny55/cases/greedy_slide.safetensors", "s2_logits", "greedy_slide", "s2_logits"),
        ("tiny55/cases/replay_top_p.safetensors", "decoded_window", "replay_top_p", "decoded_window"),
        ("tiny55/cases/replay_top_k.safetensors", "s1_probs", "replay_top_k", "s1_probs"),
        ("fixedte55/cases/greedy_fit.safetensors", "s1_logits", "greedy_fit", "s1_logits"),
    ] {
        let copy = copy();
        change(&copy.path().join(file), tensor, |value| value * 1.001);
        assert_found(copy.path(), file, case, stage);
    }
}

#[test]
fn one_wrong_input_bar_is_found() {
    let copy = copy();
    let file = copy.path().join("tiny55/cases/greedy_fit.json");
    let mut case: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    case["series"][0]["x_timestamp"][39] = "2024-02-19 23:55:00".into();
    fs::write(&file, case.to_string()).unwrap();
    assert_found(copy.path(), "another time of the last bar", "greedy_fit", "s1_logits");
}

#[test]
fn a_stage_the_model_never_shows_is_found() {
    let copy = copy();
    let file = copy.path().join("fixedte55/stages.safetensors");
    let mut tensors = folder::tensors(&file);
    let unknown = tensors["pred.norm"].clone();
    tensors.insert("pred.invented".into(), unknown);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    assert_found(copy.path(), "a new stage", "stages, window 0", "pred.invented");
}
