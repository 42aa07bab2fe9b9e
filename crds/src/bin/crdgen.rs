//! Writes the chart's CustomResourceDefinitions: `crdgen DIRECTORY`.

use std::{env, fs, path::PathBuf, process::ExitCode};

fn main() -> ExitCode {
    let Some(directory) = env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: crdgen DIRECTORY");
        return ExitCode::from(2);
    };
    match write(&directory) {
        Ok(count) => {
            println!("{count} CustomResourceDefinitions written to {}", directory.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crdgen: {}: {error}", directory.display());
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &std::path::Path) -> Result<usize, Box<dyn std::error::Error>> {
    let files = railhead_crds::yaml::files()?;
    fs::create_dir_all(directory)?;
    for (name, content) in &files {
        fs::write(directory.join(name), content)?;
    }
    Ok(files.len())
}
