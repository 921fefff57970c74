//! A headless Chromium, driven over its debugging pipe: JSON messages that end in a zero byte.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any answer takes on a loaded machine: a browser that hangs fails the test instead of stopping it.
const DEADLINE: Duration = Duration::from_secs(180);

pub struct Browser {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    session: Option<String>,
    last: u64,
    /// Errors of pages: exceptions, and what was written to the console.
    pub complaints: Vec<Value>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with an empty page; `None`, and a note, where there is none that runs.
    pub fn start() -> Option<Self> {
        let names = ["chromium", "chromium-browser", "google-chrome", "chrome"];
        let own = std::env::var("CHROMIUM").ok();
        for name in own.iter().map(String::as_str).chain(names) {
            if let Some(mut browser) = Self::spawn(name)
                && let Some(version) = browser.open()
            {
                eprintln!("in {version} ({name})");
                return Some(browser);
            }
        }
        eprintln!("skipped: no Chromium runs here; install one, or set CHROMIUM to it");
        None
    }

    fn spawn(name: &str) -> Option<Self> {
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        // The browser reads commands from file 3 and writes messages to file 4.
        let mut child = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", name])
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"])
            .args(["--disable-background-networking", "--remote-debugging-pipe", &data])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let (commands, output) = (child.stdin.take()?, child.stdout.take()?);
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            for message in BufReader::new(output).split(0) {
                let message = message.ok().and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
                let Some(message) = message else { return };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let (session, complaints) = (None, Vec::new());
        Some(Self { child, commands, messages, session, last: 0, complaints, _profile: profile })
    }

    /// Opens an empty page, and tries a script there: a browser that starts may still not be able to run pages. Its version.
    fn open(&mut self) -> Option<String> {
        let version = self.call("Browser.getVersion", &json!({}))?["product"].as_str()?.to_owned();
        let target = self.call("Target.createTarget", &json!({ "url": "about:blank" }))?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        self.session = Some(self.call("Target.attachToTarget", &attach)?["sessionId"].as_str()?.to_owned());
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            self.call(domain, &json!({}))?;
        }
        let sum = self.call("Runtime.evaluate", &json!({ "expression": "1 + 1" }))?;
        (sum["result"]["value"] == 2).then_some(version)
    }

    /// The result of a command; `None` where the browser has gone or refuses it.
    fn call(&mut self, method: &str, parameters: &Value) -> Option<Value> {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = session.as_str().into();
        }
        self.commands.write_all(format!("{command}\0").as_bytes()).ok()?;
        loop {
            let message = self.messages.recv_timeout(DEADLINE).ok()?;
            if message["id"] == self.last {
                return message.get("result").cloned();
            }
            self.hear(&message);
        }
    }

    fn ask(&mut self, method: &str, parameters: &Value) -> Value {
        self.call(method, parameters).unwrap_or_else(|| panic!("the browser has gone or refuses {method}"))
    }

    fn hear(&mut self, event: &Value) {
        if ["Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded"]
            .iter()
            .any(|of| event["method"] == **of)
        {
            self.complaints.push(event["params"].clone());
        }
    }

    /// Loads a file in a window of that width.
    pub fn load(&mut self, path: &Path, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.ask("Emulation.setDeviceMetricsOverride", &metrics);
        let features = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.ask("Emulation.setEmulatedMedia", &features);
        self.ask("Page.navigate", &json!({ "url": format!("file://{}", path.display()) }));
        loop {
            let event = self.messages.recv_timeout(DEADLINE).expect("the page is loaded");
            if event["method"] == "Page.loadEventFired" {
                return;
            }
            self.hear(&event);
        }
    }

    /// The value of a JavaScript expression in the page.
    pub fn value(&mut self, expression: &str) -> Value {
        let result = self.ask("Runtime.evaluate", &json!({ "expression": expression, "returnByValue": true }));
        assert!(result.get("exceptionDetails").is_none(), "{expression}: {result}");
        result["result"]["value"].clone()
    }

    /// Clicks where the first element of a CSS selector is.
    pub fn click(&mut self, selector: &str) {
        let place = self.value(&format!(
            "(() => {{ const of = document.querySelector({selector:?}); of.scrollIntoView({{ block: 'center' }}); \
             const at = of.getBoundingClientRect(); return [at.x + at.width / 2, at.y + at.height / 2]; }})()"
        ));
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": place[0], "y": place[1], "button": "left", "clickCount": 1 });
            self.ask("Input.dispatchMouseEvent", &event);
        }
    }

    /// Presses a key in the element of a CSS selector.
    pub fn press(&mut self, selector: &str, key: &str, code: u32) {
        self.value(&format!("document.querySelector({selector:?}).focus()"));
        for kind in ["keyDown", "keyUp"] {
            let event = json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code });
            self.ask("Input.dispatchKeyEvent", &event);
        }
    }

    /// A picture of the whole page, in base64.
    pub fn picture(&mut self) -> String {
        let all = json!({ "captureBeyondViewport": true });
        self.ask("Page.captureScreenshot", &all)["data"].as_str().unwrap_or_default().to_owned()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends by itself where it still listens; its children end with it.
        self.session = None;
        let _ = self.commands.write_all(b"{\"id\":0,\"method\":\"Browser.close\"}\0");
        for _ in 0..50 {
            if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
