//! Models of any size with weights made by a formula: memory and speed do not depend on their values.

use crate::cluster::Cluster;
use kronos_models::artifact::{TensorRole, TensorSpec};
use kronos_models::kronos::config::{PredictorConfig, TokenizerConfig};
use kronos_tests::project_root;
use std::fs;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Width, heads, feed-forward width, layers of a predictor.
pub struct Size(pub usize, pub usize, pub usize, pub usize);

/// The published "mini".
pub const MINI: Size = Size(256, 4, 512, 4);

/// The published "small".
pub const SMALL: Size = Size(512, 8, 1024, 8);

/// Puts a model where the cluster reads models and registers it under its name.
pub fn install(cluster: &Cluster, name: &str, Size(width, heads, inner, layers): Size) {
    let folder = cluster.home.join("models").join(name);
    let predictor = format!(
        r#"{{"d_model":{width},"n_heads":{heads},"ff_dim":{inner},"n_layers":{layers},"learn_te":true,"s1_bits":10,
            "s2_bits":10,"attn_dropout_p":0.0,"ffn_dropout_p":0.0,"resid_dropout_p":0.0,"token_dropout_p":0.0}}"#
    );
    let tokenizer = r#"{"d_in":6,"d_model":256,"n_heads":4,"ff_dim":512,"n_enc_layers":4,"n_dec_layers":4,"s1_bits":10,
        "s2_bits":10,"group_size":5,"beta":0.05,"gamma0":1.0,"gamma":1.1,"zeta":0.05,"attn_dropout_p":0.0,
        "ffn_dropout_p":0.0,"resid_dropout_p":0.0}"#;
    let specs = serde_json::from_str::<PredictorConfig>(&predictor).unwrap().tensors().unwrap();
    write(&folder.join("predictor"), &predictor, &specs);
    let specs = serde_json::from_str::<TokenizerConfig>(tokenizer).unwrap().tensors().unwrap();
    write(&folder.join("tokenizer"), tokenizer, &specs);
    cluster.run(&format!("select kronos.register_model('{name}', 'kronos', '{name}')"));
}

/// Puts the random-weight Chronos-2 of the golden vectors where the cluster reads models and registers it.
pub fn install_chronos(cluster: &Cluster, name: &str) {
    let source = project_root().join("models/tests/fixtures/chronos2/models/tiny-b");
    let folder = cluster.home.join("models").join(name);
    fs::create_dir_all(&folder).unwrap();
    for file in ["config.json", "model.safetensors"] {
        fs::copy(source.join(file), folder.join(file)).unwrap();
    }
    cluster.run(&format!("select kronos.register_model('{name}', null, '{name}')"));
}

/// Writes a directory in the layout of Hugging Face.
fn write(folder: &Path, config: &str, specs: &[TensorSpec]) {
    fs::create_dir_all(folder).unwrap();
    fs::write(folder.join("config.json"), config).unwrap();
    let wanted: Vec<_> = specs.iter().filter(|spec| spec.role == TensorRole::Required).collect();
    let mut at = 0;
    let entries: Vec<String> = wanted
        .iter()
        .map(|spec| {
            let from = at;
            at += spec.shape.iter().product::<usize>() * 4;
            format!(
                r#""{}":{{"dtype":"F32","shape":{:?},"data_offsets":[{from},{at}]}}"#,
                spec.name, spec.shape
            )
        })
        .collect();
    let header = format!("{{{}}}", entries.join(","));
    let mut file = BufWriter::new(fs::File::create(folder.join("model.safetensors")).unwrap());
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    for spec in wanted {
        let width = *spec.shape.last().unwrap_or(&1) as f32;
        let is_norm = spec.shape.len() == 1 && spec.name.ends_with("weight");
        for i in 0..spec.shape.iter().product::<usize>() {
            let wave = ((i as f32 * 12.9898).sin() * 43758.547).fract();
            let value = if is_norm { 1.0 } else { wave / width.sqrt() };
            file.write_all(&value.to_le_bytes()).unwrap();
        }
    }
    file.flush().unwrap();
}
