//! What `mount` says: nothing of what it mounted, but to programs; and how to mount by hand.

use super::super::{error::CliError, text};
use crate::control::api::{Export, MountRecord, Status};
use serde::Serialize;

#[derive(Serialize)]
struct Mounted<'a> {
    target: &'a str,
    what: &'a str,
    read_only: bool,
}

pub fn mounted(json: bool, record: &MountRecord, read_only: bool) -> Result<(), CliError> {
    match json {
        false => Ok(()),
        true => text::out(&text::json(&Mounted {
            target: &record.target,
            what: &record.what,
            read_only,
        })?),
    }
}

/// The mount command on each system, for who mounts by hand.
#[derive(Serialize)]
pub struct ByHand {
    /// Whoever knows it may mount it.
    export: String,
    read_only: bool,
    /// Where the server listens for other hosts, if it does.
    listen: Option<String>,
    /// By system; DIR is where to mount.
    commands: Commands,
}

#[derive(Serialize)]
struct Commands {
    linux: String,
    openbsd: String,
    freebsd: String,
    macos: String,
}

impl ByHand {
    pub fn of(status: &Status, export: &Export) -> ByHand {
        let addr = status.listen.as_deref().unwrap_or("SERVER:2049");
        let (host, port) = addr.rsplit_once(':').unwrap_or((addr, "2049"));
        let path = &export.path;
        let (mode, linux, bsd) = match export.read_only {
            true => ("ro", ",nocto,actimeo=3600", "ro"),
            false => ("rw", "", "rw,sync"),
        };
        let at = format!("{host}:{path} DIR");
        ByHand {
            export: path.clone(),
            read_only: export.read_only,
            listen: status.listen.clone(),
            commands: Commands {
                linux: format!(
                    "mount -t nfs -o {mode},vers=3,proto=tcp,port={port},mountproto=tcp,mountport={port},nolock,noacl,hard,nosuid,nodev{linux} {at}"
                ),
                openbsd: format!(
                    "mount_nfs -3 -T -i -R 1 -r 65536 -w 65536 -o {bsd},nodev,nosuid,port={port} {at}"
                ),
                freebsd: format!(
                    "mount_nfs -o {mode},nfsv3,tcp,port={port},nolockd,retrycnt=1,nosuid {at}"
                ),
                macos: format!(
                    "mount_nfs -o {mode},vers=3,tcp,port={port},mountport={port},locallocks,nodev,nosuid {at}"
                ),
            },
        }
    }

    pub fn tell(&self, json: bool) -> Result<(), CliError> {
        if json {
            return text::out(&text::json(self)?);
        }
        let note = match self.listen {
            Some(_) => "",
            None => {
                "# this server listens on no address: start it with `pocker serve --listen ADDR`\n"
            }
        };
        let commands = &self.commands;
        text::out(&format!(
            "{note}export   {}\nlinux    {}\nopenbsd  {}\nfreebsd  {}\nmacos    {}\n",
            self.export, commands.linux, commands.openbsd, commands.freebsd, commands.macos
        ))
    }
}
