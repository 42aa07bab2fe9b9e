//! Writes what is generated from the types: `crdgen CRD_DIRECTORY REFERENCE_FILE REASONS_FILE`.

use std::{env, fs, path::Path, process::ExitCode};

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [directory, reference, reasons] = arguments.as_slice() else {
        eprintln!("usage: crdgen CRD_DIRECTORY REFERENCE_FILE REASONS_FILE");
        return ExitCode::from(2);
    };
    match write(Path::new(directory), Path::new(reference), Path::new(reasons)) {
        Ok(count) => {
            println!(
                "{count} CustomResourceDefinitions written to {directory}, the API reference to {reference}, the reasons to {reasons}"
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crdgen: {directory}, {reference}, {reasons}: {error}");
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path, reference: &Path, reasons: &Path) -> Result<usize, Box<dyn std::error::Error>> {
    let files = railhead_crds::yaml::files()?;
    fs::create_dir_all(directory)?;
    for (name, content) in &files {
        fs::write(directory.join(name), content)?;
    }
    fs::write(reference, railhead_crds::reference::markdown())?;
    fs::write(reasons, railhead_crds::reasons::markdown())?;
    Ok(files.len())
}
