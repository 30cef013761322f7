//! `peer-nfs3_server PORT DIR`: nfs3_server's own MemFs, filled from a directory.

use nfs3_server::memfs::{MemFs, MemFsConfig};
use nfs3_server::tcp::{NFSTcp, NFSTcpListener};
use std::path::Path;

fn fill(config: &mut MemFsConfig, dir: &Path, at: &str) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let path = format!("{at}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            config.add_dir(&path);
            fill(config, &entry.path(), &path)?;
        } else {
            config.add_file(&path, std::fs::read(entry.path())?);
        }
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().collect();
    let mut config = MemFsConfig::default();
    fill(&mut config, Path::new(&args[2]), "")?;
    let fs = MemFs::new(config).map_err(|e| format!("{e:?}"))?;
    let listener = NFSTcpListener::bind(&format!("127.0.0.1:{}", args[1]), fs).await?;
    listener.handle_forever().await?;
    Ok(())
}
