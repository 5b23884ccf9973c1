//! nginx: one worker, an access log, kept-alive upstream connections, streams passed on as they come.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use kthena_tests::command::output;
use kthena_tests::reserve::Port;
use kthena_tests::{cache, setting};

use crate::bed::{Bed, Running};

/// Where the package has its program.
const PROGRAM: &str = "usr/sbin/nginx";

fn unpacked() -> Result<PathBuf> {
    Ok(cache::dir()?.join("bench/nginx"))
}

/// One on the path, or one unpacked earlier.
pub(super) fn installed() -> Result<Option<PathBuf>> {
    let places = setting::search_path().into_iter().map(|dir| dir.join("nginx"));
    let mut places = places.chain([Path::new("/").join(PROGRAM), unpacked()?.join(PROGRAM)]);
    Ok(places.find(|path| path.is_file()))
}

/// Fetches Debian's package, which needs no rights, and unpacks it into the cache.
pub(super) fn install() -> Result<PathBuf> {
    let dir = unpacked()?;
    cache::make(&dir, |unfinished| {
        std::fs::create_dir_all(unfinished).context("making a folder")?;
        output(
            Command::new("apt-get")
                .args(["download", "--quiet", "nginx"])
                .current_dir(unfinished),
        )?;
        let mut entries = std::fs::read_dir(unfinished).context("listing the folder")?;
        let package = entries.find_map(|entry| {
            Some(entry.ok()?.path()).filter(|path| path.extension().is_some_and(|e| e == "deb"))
        });
        let package = package.context("apt-get left no package")?;
        output(
            Command::new("dpkg-deb")
                .arg("--extract")
                .arg(package)
                .arg(unfinished),
        )
        .map(drop)
    })?;
    let program = dir.join(PROGRAM);
    output(Command::new(&program).arg("-v"))
        .context("the package's program does not run here, install nginx yourself")?;
    Ok(program)
}

pub(super) async fn start(bed: &Bed, program: &Path) -> Result<Running> {
    let (port, folder) = (Port::reserve()?, bed.folder("nginx")?);
    let conf = folder.join("nginx.conf");
    let text = configuration(&folder, port.number(), &bed.engine(0).to_string());
    std::fs::write(&conf, text).context("writing its configuration")?;
    let mut command = Command::new(program);
    command
        .args(["-e", "stderr", "-c"])
        .arg(&conf)
        .arg("-p")
        .arg(&folder);
    bed.serve("nginx", &mut command, &folder, vec![port], "bench")
        .await
}

fn configuration(folder: &Path, port: u16, upstream: &str) -> String {
    let folder = folder.display();
    format!(
        "worker_processes 1;
daemon off;
pid {folder}/nginx.pid;
worker_rlimit_nofile 40000;
events {{ worker_connections 20000; }}
http {{
  access_log {folder}/access.log;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 64m;
  client_body_buffer_size 1m;
  keepalive_requests 1000000000;
  upstream engine {{ server {upstream}; keepalive 1000; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://engine;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_buffering off;
      proxy_read_timeout 600s;
    }}
  }}
}}
"
    )
}
