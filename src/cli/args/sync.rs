//! Pockers from store to store.

use clap::Args;

#[derive(Debug, Args)]
pub struct Sync {
    /// Where they are: `local` (this host's own, the store of --store), the server of another host (pocker://HOST, or
    /// `remote` for that of --remote), another store's folder, a server's control socket, or an object store: s3://BUCKET/PREFIX, gs://…, az://…, file:///DIR
    pub source: String,
    /// Where they go, said the same way
    pub destination: String,
    /// The pockers
    #[arg(value_name = "NAME", required_unless_present = "all")]
    pub names: Vec<String>,
    /// All that the source has
    #[arg(long, conflicts_with = "names")]
    pub all: bool,
    /// Take directories only: the server that receives fetches files from its upstream (`pocker serve --upstream`),
    /// which has to be the source, when they are read
    #[arg(long)]
    pub lazy: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}
