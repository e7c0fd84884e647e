//! Every way a model file can be wrong has one error that says what and where.
#![allow(clippy::unwrap_used)] // Also in what the tests share, which clippy does not take for a test.

use candle_core::Device;
use kronos_models::ModelError;
use kronos_models::artifact::{TensorSpec, Tensors, read_config, read_tensors, sha256_file, verify};
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A file in the safetensors layout with any header and data, consistent or not.
fn assemble(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes(), header.as_bytes(), data].concat()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn write(directory: &TempDir, name: &str, content: &[u8]) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    path
}

/// What the files below are read as: `a` [2, 3] and `b` [2] required, `c` [1] optional, `basis` ignored.
fn specs() -> Vec<TensorSpec> {
    vec![
        TensorSpec::required("a", [2, 3]),
        TensorSpec::required("b", [2]),
        TensorSpec::optional("c", [1]),
        TensorSpec::ignored("basis"),
    ]
}

fn read(path: &Path) -> Result<Tensors, ModelError> {
    read_tensors(path, &specs(), &Device::Cpu)
}

const A: &str = r#""a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]}"#;
const B: &str = r#""b":{"dtype":"F32","shape":[2],"data_offsets":[24,32]}"#;

#[test]
fn reads_required_optional_and_skips_ignored() {
    let directory = TempDir::new().unwrap();
    let header = format!(
        r#"{{"__metadata__":{{"format":"pt"}},"basis":{{"dtype":"I64","shape":[4],"data_offsets":[32,64]}},
        {B},{A},"c":{{"dtype":"BF16","shape":[1],"data_offsets":[64,66]}}}}"#
    );
    let data =
        [floats(&[1., 2., 3., 4., 5., 6., 7., 8.]), vec![0; 32], 0xc0a0u16.to_le_bytes().to_vec()].concat();
    let tensors = read(&write(&directory, "f", &assemble(&header, &data))).unwrap();

    assert_eq!(tensors["a"].to_vec2::<f32>().unwrap(), [[1., 2., 3.], [4., 5., 6.]]);
    assert_eq!(tensors["b"].to_vec1::<f32>().unwrap(), [7., 8.]);
    assert_eq!(tensors["c"].to_vec1::<f32>().unwrap(), [-5.0], "bfloat16 0xc0a0 is -5");
    assert_eq!(tensors.len(), 3, "the ignored buffer is not read");
}

#[test]
fn decodes_half_precision_exactly() {
    let directory = TempDir::new().unwrap();
    let header = r#"{"b":{"dtype":"F16","shape":[2],"data_offsets":[0,4]}}"#;
    // IEEE binary16: 0x3555 = 0.333251953125, 0x0001 = 2^-24, the smallest subnormal.
    let path = write(&directory, "f", &assemble(header, &[0x55, 0x35, 0x01, 0x00]));
    let tensors = read_tensors(&path, &[TensorSpec::required("b", [2])], &Device::Cpu).unwrap();
    assert_eq!(tensors["b"].to_vec1::<f32>().unwrap(), [0.333_251_95, 1.0 / 16_777_216.0]);
}

/// More than one piece of the reader, with a remainder.
#[test]
fn decodes_tensors_larger_than_the_read_buffer() {
    let directory = TempDir::new().unwrap();
    let values: Vec<f32> = (0..600_001).map(|i| i as f32).collect();
    let bytes = floats(&values);
    let header = format!(r#"{{"b":{{"dtype":"F32","shape":[600001],"data_offsets":[0,{}]}}}}"#, bytes.len());
    let path = write(&directory, "f", &assemble(&header, &bytes));
    let tensors = read_tensors(&path, &[TensorSpec::required("b", [600_001])], &Device::Cpu).unwrap();
    assert_eq!(tensors["b"].to_vec1::<f32>().unwrap(), values);
}

#[test]
fn every_damage_has_its_own_reason() {
    let data = floats(&[1.0; 8]);
    let good = assemble(&format!("{{{A},{B}}}"), &data);
    let with = |header: &str| assemble(header, &data);
    let length = |claimed: u64| [&claimed.to_le_bytes(), &good[8..]].concat();
    let entry = |text: &str| with(&format!("{{{A},{text}}}"));
    let mut not_finite = good.clone();
    let last = not_finite.len();
    not_finite[last - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
    let mut infinite = good.clone();
    infinite[last - 20..last - 16].copy_from_slice(&f32::NEG_INFINITY.to_le_bytes());
    let many: String =
        (0..7).map(|i| format!(r#","x{i}":{{"dtype":"U8","shape":[0],"data_offsets":[32,32]}}"#)).collect();
    let rank = "1,".repeat(50);

    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("empty file", vec![], "file has 0 bytes, too few"),
        ("length only in part", vec![1, 0, 0], "file has 3 bytes, too few"),
        ("truncated header", good[..40].to_vec(), "it may be truncated"),
        (
            "truncated data",
            good[..last - 1].to_vec(),
            "tensors need 32 bytes of data, the file has 31; it may be truncated",
        ),
        ("surplus data", [&good[..], &[0]].concat(), "tensors need 32 bytes of data, the file has 33"),
        ("absurd header length", length(u64::MAX), "header claims 18446744073709551615 bytes, at most"),
        ("header longer than the file", length(10_000), "header claims 10000 bytes, the file has"),
        ("header length zero", length(0), "header: EOF"),
        ("header not JSON", with("{]"), "header: key must be a string"),
        ("header not UTF-8", [&3u64.to_le_bytes()[..], &[b'"', 0xff, b'"']].concat(), "header: invalid"),
        ("header not an object", with("[1]"), "expected an object of tensors"),
        (
            "header nested without end",
            with(&format!("{{\"__metadata__\":{}", "[".repeat(100_000))),
            "header: EOF while parsing a list",
        ),
        ("same name twice", with(&format!("{{{A},{A}}}")), "name \"a\" appears twice"),
        (
            "overlap",
            entry(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[20,28]}"#),
            "tensor \"b\" starts at byte 20 of the data and overlaps",
        ),
        (
            "gap",
            entry(r#""b":{"dtype":"F32","shape":[1],"data_offsets":[28,32]}"#),
            "tensor \"b\" starts at byte 28 of the data and leaves a gap",
        ),
        (
            "out of the file",
            entry(r#""b":{"dtype":"F32","shape":[4],"data_offsets":[24,40]}"#),
            "tensors need 40 bytes of data, the file has 32; it may be truncated",
        ),
        (
            "ends before it starts",
            entry(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[24,16]}"#),
            "tensor \"b\" ends before it starts",
        ),
        (
            "negative offset",
            entry(r#""b":{"dtype":"F32","shape":[2],"data_offsets":[-8,0]}"#),
            "tensor \"b\": invalid value: integer `-8`",
        ),
        (
            "size differs from shape",
            entry(r#""b":{"dtype":"F32","shape":[3],"data_offsets":[24,32]}"#),
            "tensor \"b\" of shape [3] and dtype F32 needs 12 bytes, its range has 8",
        ),
        (
            "size overflows",
            entry(r#""b":{"dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[24,32]}"#),
            "tensor \"b\" of shape [4294967296, 4294967296, 2] is too large",
        ),
        (
            "endless shape",
            entry(&format!(r#""b":{{"dtype":"F32","shape":[{rank}1],"data_offsets":[24,32]}}"#)),
            "expected at most 8 dimensions",
        ),
        (
            "half a byte",
            entry(r#""b":{"dtype":"F4","shape":[15],"data_offsets":[24,32]}"#),
            "tensor \"b\" of shape [15] and dtype F4 needs 8 bytes",
        ),
        (
            "unknown dtype",
            entry(r#""b":{"dtype":"F33","shape":[2],"data_offsets":[24,32]}"#),
            "tensor \"b\" has unknown dtype \"F33\"",
        ),
        (
            "integer weights",
            entry(r#""b":{"dtype":"I32","shape":[2],"data_offsets":[24,32]}"#),
            "tensor \"b\" has dtype I32, expected F32, F16 or BF16",
        ),
        (
            "other shape",
            entry(r#""b":{"dtype":"F32","shape":[2,1],"data_offsets":[24,32]}"#),
            "tensor \"b\" has shape [2, 1], expected [2]",
        ),
        ("missing", assemble("{}", &[]), "missing tensors \"a\", \"b\""),
        (
            "one unexpected",
            entry(&format!(r#"{B},"x":{{"dtype":"U8","shape":[0],"data_offsets":[32,32]}}"#)),
            "unexpected tensor \"x\"",
        ),
        (
            "many unexpected",
            entry(&format!("{B}{many}")),
            "unexpected tensors \"x0\", \"x1\", \"x2\", \"x3\", \"x4\" and 2 more",
        ),
        ("not a number", not_finite, "tensor \"b\" holds NaN at index 1"),
        ("infinity", infinite, "tensor \"a\" holds -inf at index 3"),
    ];
    let directory = TempDir::new().unwrap();
    for (name, content, expected) in cases {
        let path = write(&directory, "f", &content);
        match read(&path) {
            Err(ModelError::ArtifactCorrupt { path: named, reason }) => {
                assert_eq!(named, path, "{name}");
                assert!(reason.contains(expected), "{name}: \"{reason}\" does not say \"{expected}\"");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn what_is_no_file_is_refused() {
    let directory = TempDir::new().unwrap();
    let absent = directory.path().join("absent");
    let pipe = directory.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());

    assert!(matches!(read(&absent), Err(ModelError::ArtifactMissing { .. })));
    assert!(matches!(sha256_file(&absent), Err(ModelError::ArtifactMissing { .. })));
    assert!(matches!(read_config::<Knobs>(&absent), Err(ModelError::ArtifactMissing { .. })));
    for (path, expected) in [(directory.path(), "it is a directory"), (&pipe, "it is not a regular file")] {
        for error in
            [read(path).unwrap_err(), sha256_file(path).unwrap_err(), read_config::<Knobs>(path).unwrap_err()]
        {
            assert!(error.to_string().contains(expected), "{error}");
        }
    }
}

#[derive(Debug, PartialEq, serde::Deserialize)]
struct Knobs {
    width: usize,
    ratio: f64,
}

#[test]
fn config_errors_name_the_key() {
    let directory = TempDir::new().unwrap();
    let good = write(&directory, "good", br#"{"width": 8, "ratio": 0.5, "architectures": ["any"]}"#);
    assert_eq!(read_config::<Knobs>(&good).unwrap(), Knobs { width: 8, ratio: 0.5 });

    let padded = format!("{}{}", r#"{"width": 8, "ratio": 0.5}"#, " ".repeat(1 << 20));
    for (content, expected) in [
        ("", "EOF while parsing"),
        ("[]", "invalid length 0"),
        ("{", "EOF while parsing an object"),
        (r#"{"ratio": 1}"#, "missing field `width`"),
        (r#"{"width": "8", "ratio": 1}"#, "key \"width\": invalid type: string \"8\""),
        (r#"{"width": -1, "ratio": 1}"#, "key \"width\": invalid value: integer `-1`"),
        (r#"{"width": 1e99, "ratio": 1}"#, "key \"width\""),
        (r#"{"width": 8, "ratio": NaN}"#, "key \"ratio\": expected value"),
        (r#"{"width": 8, "ratio": 1} x"#, "trailing characters"),
        (r#"{"width": 8, "width": 9, "ratio": 1}"#, "duplicate field `width`"),
        (&padded, "at most 1048576 are accepted"),
    ] {
        let error = read_config::<Knobs>(&write(&directory, "config.json", content.as_bytes())).unwrap_err();
        assert!(matches!(&error, ModelError::ArtifactCorrupt { .. }), "{error:?}");
        assert!(error.to_string().contains(expected), "\"{error}\" does not say \"{expected}\"");
    }
}

#[test]
fn digests_are_those_of_the_standard() {
    let directory = TempDir::new().unwrap();
    // FIPS 180-4: SHA-256 of "abc", and of one million letters a.
    let abc = write(&directory, "abc", b"abc");
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(sha256_file(&abc).unwrap(), expected);
    let million = write(&directory, "a", &vec![b'a'; 1_000_000]);
    let long = "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0";
    assert_eq!(sha256_file(&million).unwrap(), long);

    verify(&abc, &expected.to_uppercase()).unwrap();
    match verify(&abc, long) {
        Err(ModelError::ChecksumMismatch { expected: registered, actual, .. }) => {
            assert_eq!((registered.as_str(), actual.as_str()), (long, expected));
        }
        other => panic!("{other:?}"),
    }
}
