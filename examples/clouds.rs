//! Runs the emulated cloud services, so that foldsync can be tried without an account.
//!
//! `cargo run --example clouds` prints a configuration and what to type. The services end with
//! Ctrl-C, and what was in them ends with them.

#[path = "../tests/emulators/mod.rs"]
mod emulators;

use std::path::Path;

use emulators::disktop::{CLIENT_ID, DiskTopCloud, Switches};
use tempfile::TempDir;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let cloud = DiskTopCloud::start(Switches::default()).await;
    cloud.write("Documents/from another client.txt", "made by another client\n");
    let place = TempDir::new()?;
    std::fs::create_dir(place.path().join("local"))?;
    std::fs::write(place.path().join("sync.toml"), config(&cloud, place.path()))?;
    explain(&cloud, place.path());

    tokio::signal::ctrl_c().await?;
    report(&cloud);
    Ok(())
}

fn config(cloud: &DiskTopCloud, place: &Path) -> String {
    let (base, local) = (cloud.base(), place.join("local"));
    format!(
        "[remotes.top]\nkind = \"disktop\"\nbase_url = \"{base}\"\nclient_id = \"{CLIENT_ID}\"\n\n\
         [remotes.top.limits]\nrequests_per_second = 2000\n\n\
         [[pair]]\nname = \"demo\"\nlocal = \"{}\"\nremote = \"top:/Documents\"\n",
        local.display()
    )
}

fn explain(cloud: &DiskTopCloud, place: &Path) {
    let (base, place) = (cloud.base(), place.display());
    println!(
        "Disk.Top answers at {base}\n\n\
         # {place}/sync.toml\n{}\n\
         export FOLDSYNC_CONFIG={place}/sync.toml\n\
         foldsync auth login top --device      # then open the link that it shows: that approves\n\
         foldsync sync --once demo\n\
         ls {place}/local\n\n\
         Ctrl-C ends the service.",
        config(cloud, Path::new(&place.to_string()))
    );
}

fn report(cloud: &DiskTopCloud) {
    let counters = cloud.counters();
    println!("\n{} requests, {} of them changed something", counters.requests, counters.mutating);
    for (label, count) in &counters.by_label {
        println!("{count:8} {label}");
    }
    println!("{} bytes up, {} bytes down", counters.bytes_up, counters.bytes_down);
    for violation in cloud.take_violations() {
        println!("not allowed by the document: {violation}");
    }
}
