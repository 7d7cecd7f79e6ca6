//! `build-guest DIR FILE`: compiles the crate in `DIR` and writes the component to `FILE`.

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

#[expect(clippy::print_stdout, reason = "a command line program")]
fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [dir, file] = args.as_slice() else {
        eprintln!("usage: build-guest DIR FILE");
        return ExitCode::from(2);
    };
    let start = Instant::now();
    let component = match millstream_guest_build::build(Path::new(dir)) {
        Ok(component) => component,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    if let Err(error) = std::fs::write(file, &component) {
        eprintln!("cannot write {file}: {error}");
        return ExitCode::FAILURE;
    }
    let manifest = millstream_guest_build::manifest(&component).unwrap_or_default();
    println!("{file}: {} bytes in {:.1} s, {manifest}", component.len(), start.elapsed().as_secs_f32());
    ExitCode::SUCCESS
}
