use serde_json::json;

use crate::client::Bench;

const LISTS: &str = "/api/tomograms/one/lists/annotations";

#[test]
fn without_the_token_nobody_gets_anything() {
    let bench = Bench::project();
    let wrong = format!("X-Studio-Token: {}", "0".repeat(bench.token.len()));
    for path in [
        "/",
        "/studio.js",
        "/api/project",
        LISTS,
        "/api/events",
        "/?token=0",
    ] {
        for lines in [&[][..], &[wrong.as_str()], &["Cookie: deepfinder_studio_1=0"]] {
            let answer = bench.with("GET", path, lines, b"");
            assert_eq!(answer.status, 401, "{path} {lines:?}");
            assert!(!answer.text().contains(&bench.token));
        }
    }
}

#[test]
fn the_address_gives_a_cookie_and_hides_the_token() {
    let bench = Bench::project();
    let path = &bench.url[bench.url.rfind('/').unwrap()..];
    let answer = bench.with("GET", path, &[], b"");
    assert_eq!(answer.status, 303, "{}", answer.text());
    assert!(
        answer.head.to_lowercase().contains("location: /\r\n"),
        "{}",
        answer.head
    );
    let cookie = answer
        .head
        .lines()
        .find(|line| line.to_lowercase().starts_with("set-cookie:"))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let value = cookie.split_once(": ").unwrap().1.split(';').next().unwrap();
    let page = bench
        .with("GET", "/", &[&format!("Cookie: a=b; {value}")], b"")
        .ok();
    assert!(page.text().contains("studio.js") && page.head.contains("frame-ancestors 'none'"));
    assert!(!page.text().contains(&bench.token));
    for asset in ["/studio.js", "/studio.css"] {
        assert!(bench.get(asset).ok().body.len() > 1000, "{asset}");
    }
}

#[test]
fn other_pages_and_other_names_are_refused() {
    let bench = Bench::project();
    let token = format!("X-Studio-Token: {}", bench.token);
    for line in [
        "Host: evil.example",
        "Host: localhost.evil.example:80",
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ] {
        for (method, path) in [("GET", "/api/project"), ("PUT", LISTS), ("POST", "/api/job")] {
            let answer = bench.with(method, path, &[&token, line], b"");
            assert_eq!(answer.status, 403, "{line}: {}", answer.text());
            assert!(
                !answer.head.to_lowercase().contains("access-control"),
                "{}",
                answer.head
            );
        }
    }
    // Through a tunnel the port is another.
    let lines = [
        token.as_str(),
        "Host: localhost:9999",
        "Origin: http://localhost:9999",
        "Sec-Fetch-Site: same-origin",
    ];
    bench.with("GET", "/api/project", &lines, b"").ok();
}

#[test]
fn no_path_leads_out_of_the_project() {
    let bench = Bench::project();
    let outside = bench.folder.path().parent().unwrap().join("studio-secret.xml");
    std::fs::write(&outside, "<objlist></objlist>").unwrap();
    let absolute = outside.display().to_string();
    for path in [
        "../studio-secret.xml",
        "..%2Fstudio-secret.xml",
        "output/../../studio-secret.xml",
        &absolute,
        "/etc/passwd",
        "",
    ] {
        for address in [
            format!("/api/file?path={path}"),
            format!("/api/tomograms/one/list?list={path}"),
        ] {
            let answer = bench.get(&address);
            assert!(
                [404, 422].contains(&answer.status),
                "{address}: {}",
                answer.text()
            );
            assert!(
                !answer.text().contains("objlist") && !answer.text().contains("root:"),
                "{}",
                answer.text()
            );
        }
        let export = json!({ "what": { "list": path }, "format": "csv" });
        assert!(bench.send("POST", "/api/tomograms/one/export", &export).status >= 400);
    }
    for path in [
        "/..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/api/tomograms/..%2fother/slice?layer=tomogram&axis=z&index=0",
        "/api/tomograms/one/lists/..%2fpicks",
    ] {
        assert!([400, 404].contains(&bench.get(path).status), "{path}");
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, bench.path("link.xml")).unwrap();
        assert_eq!(bench.get("/api/file?path=link.xml").status, 404);
    }
    bench.get("/api/file?path=one.xml").ok();
    std::fs::remove_file(outside).unwrap();
}

#[test]
fn requests_are_held_to_size_and_type() {
    let bench = Bench::project();
    let token = format!("X-Studio-Token: {}", bench.token);
    let large = vec![b' '; (16 << 20) + 1];
    let json = "Content-Type: application/json";
    assert_eq!(bench.with("PUT", LISTS, &[&token, json], &large).status, 413);
    assert_eq!(
        bench
            .with("PUT", LISTS, &[&token, "Content-Type: text/plain"], b"{}")
            .status,
        415
    );
    assert_eq!(bench.with("PUT", LISTS, &[&token, json], b"{").status, 400);
    assert_eq!(
        bench
            .with("PUT", LISTS, &[&token, json], b"{\"revision\": 1}")
            .status,
        422
    );
    assert_eq!(bench.with("DELETE", LISTS, &[&token], b"").status, 405);
    assert_eq!(bench.get("/api/nothing").status, 404);
    assert_eq!(bench.raw(b"nonsense\r\n\r\n").status, 400);
    bench.get("/api/project").ok();
}
