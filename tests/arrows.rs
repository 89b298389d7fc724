//! The house of the source: which file may use which. ARCHITECTURE.md draws it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::path::{Path, PathBuf};

/// The layers, top first. A file may use its own layer and those below it.
const LAYERS: [&[&str]; 8] = [
    &["lib"],
    &["http", "client"],
    &["store", "claim", "builder"],
    &["committer", "maintenance"],
    &["engine"],
    &["transition", "codec"],
    &["record"],
    &["key", "fingerprint", "time", "error", "sync", "bugs"],
];

/// Where an arrow points up, and why that is right.
const UPWARD: [(&str, &str, &str); 2] = [
    ("engine", "builder", "limits and durability are options"),
    ("engine/journal", "builder", "durability is an option"),
];

struct Source {
    /// As in `engine/journal/frame`.
    name: String,
    /// Without its unit tests.
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    let mut directories = vec![root.clone()];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path: PathBuf = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
            let code = code
                .split("#[cfg(test)]\n#[cfg(unix)]\nmod tests")
                .next()
                .unwrap();
            let name = path.strip_prefix(&root).unwrap().with_extension("");
            found.push(Source {
                name: name.to_str().unwrap().to_owned(),
                text: code.to_owned(),
            });
        }
    }
    assert!(found.len() > 30);
    found
}

fn layer(module: &str) -> usize {
    let of = |layer: &&[&str]| layer.contains(&module);
    LAYERS
        .iter()
        .position(of)
        .unwrap_or_else(|| panic!("{module} has no layer"))
}

/// Not a type at the crate's root, as links in docs name them.
fn is_module(name: &&str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
}

/// The top-level modules of the crate that a file names.
fn used(text: &str) -> Vec<&str> {
    let code = text
        .lines()
        .filter(|line| !line.trim_start().starts_with("//"));
    let after = code.flat_map(|line| line.split("crate::").skip(1));
    let names = after.map(|rest| {
        rest.split(|c: char| !c.is_alphanumeric() && c != '_')
            .next()
    });
    let mut names: Vec<&str> = names.flatten().filter(is_module).collect();
    names.sort();
    names.dedup();
    names
}

/// The names of files whose code, comments aside, holds `word`.
fn files_with(word: &str) -> Vec<String> {
    let is_code = |line: &&str| !line.trim_start().starts_with("//");
    let holds = |source: &Source| {
        source
            .text
            .lines()
            .filter(is_code)
            .any(|l| l.contains(word))
    };
    let sources = sources();
    let mut names: Vec<String> = sources
        .iter()
        .filter(|s| holds(s))
        .map(|s| s.name.clone())
        .collect();
    names.sort();
    names
}

#[test]
fn arrows_point_down() {
    for source in sources() {
        let own = source.name.split('/').next().unwrap();
        for other in used(&source.text) {
            let is_excepted =
                |(from, to, _): &(&str, &str, &str)| source.name.starts_with(from) && *to == other;
            assert!(
                layer(other) >= layer(own) || UPWARD.iter().any(is_excepted),
                "{} uses {other}, which lies above it",
                source.name
            );
        }
    }
}

#[test]
fn the_decision_imports_only_what_it_decides_about() {
    let source = sources()
        .into_iter()
        .find(|s| s.name == "transition")
        .unwrap();
    for other in used(&source.text) {
        assert!(
            ["record", "key", "fingerprint", "time"].contains(&other),
            "transition uses {other}"
        );
    }
}

#[test]
fn redb_is_named_in_one_file() {
    assert_eq!(files_with("redb::"), ["engine/base"]);
}

#[test]
fn bincode_is_named_in_one_file() {
    assert_eq!(files_with("bincode::"), ["codec"]);
}

#[test]
fn clocks_are_read_in_one_file_besides_waits() {
    assert_eq!(files_with("SystemTime::now"), ["time"]);
    let mut others = files_with("Instant::now");
    others.retain(|name| name != "maintenance" && !name.starts_with("maintenance/"));
    assert_eq!(others, ["time"]);
}

#[test]
fn threads_start_in_two_files_and_for_a_moment_in_a_third() {
    // And in a model of the first. What the HTTP layer starts are tasks.
    let model = "committer/handoff";
    let threads = ["committer", model, "maintenance"];
    let mut starting = files_with(".spawn(");
    starting.retain(|name| !name.starts_with("http/"));
    assert_eq!(starting, threads);
    assert!(files_with("thread::spawn").is_empty());
    assert_eq!(files_with(".spawn_scoped("), ["sync"]);
}

#[test]
fn tokio_is_named_in_the_http_layer_and_the_clients_alone() {
    for name in files_with("tokio::") {
        let is_theirs = ["http/", "client/"]
            .iter()
            .any(|layer| name.starts_with(layer));
        assert!(is_theirs, "{name}");
    }
}

#[test]
fn files_are_short_and_the_facade_has_no_logic() {
    for source in sources() {
        let lines = source.text.lines().count();
        assert!(
            lines <= 400,
            "{} has {lines} lines besides its tests",
            source.name
        );
    }
    assert!(!files_with("fn ").contains(&"lib".to_owned()));
}

#[test]
fn words_of_other_trades_name_nothing() {
    let names = ["Manager", "Helper", "Util", "Handler", "Processor"];
    for word in names {
        assert!(
            files_with(word).is_empty(),
            "{word}: {:?}",
            files_with(word)
        );
    }
}
