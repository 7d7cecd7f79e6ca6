//! `millstream module new`: a crate with a module that works, its tests, samples and the commands to go on with.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{cli::Common, failure::Failure, output};

const EXAMPLES: &str = "The folder is named as the module. What it depends on, millstream-sdk, is taken from --sdk, or from the Millstream
source tree that the folder is made in, or, without one, from the registry by version.

Examples:
  millstream module new late-flights --kind map
  millstream module new express --kind filter --sdk ~/millstream/sdk
  millstream module new totals --kind processor";

/// See the module's head.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct New {
    /// Name of the crate and of its folder: a-z 0-9 - _
    #[arg(value_parser = crate_name)]
    name: String,
    /// What the module does with each record
    #[arg(long, value_enum)]
    kind: Kind,
    /// Folder of millstream-sdk, or of the source tree it is in
    #[arg(long, value_name = "PATH")]
    sdk: Option<PathBuf>,
}

/// What a module does with each record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Kind {
    /// Keeps or drops it
    Filter,
    /// Replaces it by another, or drops it
    Map,
    /// Replaces it by any number of others
    FlatMap,
    /// Sends it to topics
    Route,
    /// Remembers, and makes of it and of what it remembers any number of others
    Processor,
}

/// What a kind's template is made of.
struct Template {
    description: &'static str,
    source: &'static str,
    config: &'static str,
    expected: &'static str,
    /// The command that uses the module, and what it does.
    usage: (&'static str, &'static str),
}

const SUBSCRIBE: (&str, &str) =
    ("subscribe TOPIC --module {{name}} --config @samples/config.json", "reads a topic through it");
const PROCESS: (&str, &str) = (
    "processor create {{name}} --from TOPIC --to OTHER_TOPIC --module {{name}} --config @samples/config.json",
    "runs it over a topic, from then on",
);

impl Kind {
    fn template(self) -> Template {
        match self {
            Self::Filter => Template {
                description: "keeps the records of one carrier",
                source: include_str!("template/filter.rs.tmpl"),
                config: "{\"carrier\": \"UA\"}\n",
                expected: include_str!("template/filter.ndjson.tmpl"),
                usage: SUBSCRIBE,
            },
            Self::Map => Template {
                description: "a summary of each late flight",
                source: include_str!("template/map.rs.tmpl"),
                config: "{\"over_minutes\": 60}\n",
                expected: include_str!("template/map.ndjson.tmpl"),
                usage: SUBSCRIBE,
            },
            Self::FlatMap => Template {
                description: "takes lists apart",
                source: include_str!("template/flat_map.rs.tmpl"),
                config: "{\"field\": \"legs\"}\n",
                expected: include_str!("template/flat_map.ndjson.tmpl"),
                usage: SUBSCRIBE,
            },
            Self::Route => Template {
                description: "sends each record to the topic of its carrier",
                source: include_str!("template/route.rs.tmpl"),
                config: "{\"rest\": \"flights.rest\"}\n",
                expected: include_str!("template/route.ndjson.tmpl"),
                usage: SUBSCRIBE,
            },
            Self::Processor => Template {
                description: "adds up the delays of each carrier",
                source: include_str!("template/processor.rs.tmpl"),
                config: "{\"from_minutes\": 0}\n",
                expected: include_str!("template/processor.ndjson.tmpl"),
                usage: PROCESS,
            },
        }
    }
}

impl New {
    /// Runs the command.
    pub(crate) fn run(self, common: &Common) -> Result<(), Failure> {
        let dir = PathBuf::from(&self.name);
        let sdk = self.sdk()?;
        // Refuses what is there, even if it is empty: it may be someone's.
        fs::create_dir(&dir).map_err(|error| Failure::file("make the folder", &dir, &error))?;
        let template = self.kind.template();
        let filled = |text: &str| {
            text.replace("{{usage}}", template.usage.0)
                .replace("{{what}}", template.usage.1)
                .replace("{{name}}", &self.name)
                .replace("{{function}}", &self.name.replace('-', "_"))
                .replace("{{description}}", template.description)
                .replace("{{sdk}}", &sdk)
        };
        let files = [
            ("Cargo.toml", include_str!("template/Cargo.toml.tmpl")),
            ("src/lib.rs", template.source),
            ("README.md", include_str!("template/README.md.tmpl")),
            (".gitignore", include_str!("template/gitignore.tmpl")),
            ("samples/input.ndjson", include_str!("template/input.ndjson.tmpl")),
            ("samples/config.json", template.config),
            ("samples/expected.ndjson", template.expected),
        ];
        for (name, text) in files {
            let file = dir.join(name);
            let parent = file.parent().unwrap_or(&dir);
            fs::create_dir_all(parent).map_err(|error| Failure::file("make the folder", parent, &error))?;
            fs::write(&file, filled(text)).map_err(|error| Failure::file("write", &file, &error))?;
        }
        if common.json {
            let names = files.map(|(name, _)| name);
            return output::json(&json!({ "folder": dir, "files": names, "millstream_sdk": sdk }));
        }
        let mut told = format!(
            "{0} is a crate now. Next, in that folder: `cargo test`, then `millstream module build .`; its README has the rest",
            dir.display()
        );
        if !sdk.starts_with('{') {
            told.push_str(
                "\nIt takes millstream-sdk from crates.io: with a clone of Millstream, make it with --sdk FOLDER",
            );
        }
        output::line(told)
    }

    /// The dependency on the SDK, as Cargo.toml has it.
    fn sdk(&self) -> Result<String, Failure> {
        let by_path = |sdk: &Path| {
            let sdk = sdk.canonicalize().map_err(|error| Failure::file("find", sdk, &error))?;
            // A path in a TOML text, as a JSON text is one.
            Ok(format!("{{ path = {} }}", json!(sdk.display().to_string())))
        };
        if let Some(given) = &self.sdk {
            return match [given.clone(), given.join("sdk")].iter().find(|dir| is_sdk(dir)) {
                Some(sdk) => by_path(sdk),
                None => Err(Failure::new(format!("{} is no source tree of millstream-sdk", given.display()))),
            };
        }
        let here = std::env::current_dir()
            .map_err(|error| Failure::new(format!("there is no current folder: {error}")))?;
        match here.ancestors().map(|dir| dir.join("sdk")).find(|dir| is_sdk(dir)) {
            Some(sdk) => by_path(&sdk),
            None => Ok(format!("{:?}", SDK_VERSION)),
        }
    }
}

/// The SDK that speaks this binary's contract has its version.
const SDK_VERSION: &str = env!("CARGO_PKG_VERSION");

fn is_sdk(dir: &Path) -> bool {
    let manifest = fs::read_to_string(dir.join("Cargo.toml")).unwrap_or_default();
    manifest.lines().any(|line| line.trim() == "name = \"millstream-sdk\"")
}

/// What Cargo takes for a package, and Rust for a function.
fn crate_name(name: &str) -> Result<String, String> {
    const TAKEN: &str = " as break const continue crate dyn else enum extern false fn for if impl in let loop match mod move \
        mut pub ref return self static struct super trait true type unsafe use where while async await gen test core std alloc \
        millstream_sdk ";
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    let starts = name.starts_with(|char: char| char.is_ascii_lowercase());
    if !starts || !name.bytes().all(plain) || name.len() > 64 {
        return Err("a name has a-z 0-9 - _, begins with a letter, and at most 64 of them".to_owned());
    }
    match TAKEN.contains(&format!(" {} ", name.replace('-', "_"))) {
        true => Err("Rust has taken this name: choose another".to_owned()),
        false => Ok(name.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_cargo_and_rust_take() {
        assert_eq!(crate_name("late-flights_2").as_deref(), Ok("late-flights_2"));
        for bad in ["", "2late", "Late", "a b", "../x", "a/b", "match", "millstream-sdk", &"a".repeat(65)] {
            assert!(crate_name(bad).is_err(), "{bad}");
        }
    }
}
