//! The shape of the tree: layers import downwards only, and what "only X may" says is true.

use std::path::{Path, PathBuf};

/// Lowest first. A room imports from rooms before it; `proxy` and `portal` never from each other.
const LAYERS: [&str; 16] = [
    "base",
    "domain",
    "crypto",
    "config",
    "store",
    "telemetry",
    "audit",
    "session",
    "pages",
    "notify",
    "auth",
    "proxy",
    "portal",
    "server",
    "app",
    "cli",
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

/// Every source file: its room, its path below `src`, its text without comments and tests.
fn files() -> Vec<(String, String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut paths = Vec::new();
    sources(&root, &mut paths);
    let mut all = Vec::new();
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
        let room = name.split(['/', '.']).next().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let code: String = text
            .split("#[cfg(test)]\nmod tests {")
            .next()
            .unwrap()
            .lines()
            .map(|l| l.split("//").next().unwrap_or_default())
            .collect::<Vec<_>>()
            .join("\n");
        all.push((room, name, code));
    }
    assert!(all.len() > 50, "the walk found only {} files", all.len());
    all
}

#[test]
fn layers_import_downwards_only() {
    let rank = |room: &str| LAYERS.iter().position(|l| *l == room);
    let mut wrong = Vec::new();
    for (room, name, code) in files() {
        // Tests of a room may build a whole world.
        let Some(own) = rank(&room).filter(|_| !name.contains("test")) else { continue };
        for (at, layer) in LAYERS.iter().enumerate() {
            let used = code.contains(&format!("crate::{layer}::")) || code.contains(&format!("crate::{layer};"));
            let siblings = (room == "portal" && *layer == "proxy") || (room == "proxy" && *layer == "portal");
            if used && (at > own || siblings) {
                wrong.push(format!("{name} imports from {layer}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_room_is_in_the_table() {
    for (room, name, _) in files() {
        assert!(LAYERS.contains(&room.as_str()) || name == "lib.rs" || name == "main.rs", "{name} stands in no layer");
    }
}

/// Files whose code (without comments and tests) holds one of `words`.
fn users(words: &[&str]) -> Vec<String> {
    files().into_iter().filter(|(_, _, code)| words.iter().any(|w| code.contains(w))).map(|(_, name, _)| name).collect()
}

#[test]
fn only_evaluate_makes_a_permit() {
    assert_eq!(users(&["Permit::new("]), ["domain/policy/evaluate.rs"]);
}

#[test]
fn only_the_clock_and_the_random_source_ask_the_system() {
    assert_eq!(users(&["SystemTime::now(", "Timestamp::now(", "Zoned::now("]), ["base/clock.rs"]);
    // An ECDSA signature draws its own nonce: the library wants its own source there.
    let mut random = users(&["SystemRandom"]);
    random.sort();
    assert_eq!(random, ["base/rng.rs", "crypto/assertion.rs"]);
}

#[test]
fn domain_touches_no_file_socket_clock_or_randomness() {
    for (room, name, code) in files() {
        if room == "domain" {
            for word in
                ["std::fs", "std::net::Tcp", "tokio", "hyper", "async fn", "SystemClock", "SystemRng", "std::env"]
            {
                assert!(!code.contains(word), "{name} holds {word}");
            }
        }
    }
}

#[test]
fn s_frame_12_no_leniency_switch_of_hyper_is_set() {
    let switches =
        ["ignore_invalid_headers", "allow_multiple_spaces", "allow_spaces_after", "allow_obsolete_multiline", "http09"];
    assert_eq!(users(&switches), Vec::<String>::new());
}

#[test]
fn yaml_is_read_in_one_place() {
    assert_eq!(users(&["serde_yaml::"]).iter().filter(|n| !n.starts_with("config/")).count(), 0);
}
