/** Step 1: drop, pick or record a clip, or take an example. */

import { Fragment, html, size, useEffect, useRef, useState } from "./view.js";

const LONGEST_RECORDING_S = 30;

/** A file as the page keeps it; `url` is for the player, which the browser loads from its own memory. */
export function clipOf(file, name = file.name) {
  return { file, name, url: URL.createObjectURL(file), kind: file.type.split("/")[0] || "video" };
}

/**
 * The chooser.
 *
 * Props: clip or null; examples that fit the bundle; onClip(clip); onExample(example); maxBytes of an upload.
 */
export function ClipChooser({ clip, examples, onClip, onExample, maxBytes }) {
  const [note, setNote] = useState("");
  const field = useRef(null);
  const isOver = useDropped((dropped) => {
    if (!field.current.offsetParent) return; // in a view that is not shown
    // A folder comes as a file too, which can't be read.
    if ([...dropped.items].some((item) => item.webkitGetAsEntry?.()?.isDirectory)) {
      setNote("That is a folder, and the page takes one clip at a time. For folders there is “ahse classify FOLDER”.");
    } else {
      take(dropped.files);
    }
  });

  function take(files) {
    const [file, ...others] = files;
    if (!file) return;
    if (maxBytes && file.size > maxBytes) {
      setNote(html`<bdi>${file.name}</bdi> has ${size(file.size)}; this service takes at most ${size(maxBytes)}. Choose a shorter or smaller clip.`);
      return;
    }
    setNote(others.length ? html`The page takes one clip at a time: <bdi>${file.name}</bdi>. For folders there is “ahse classify FOLDER”.` : "");
    onClip(clipOf(file));
  }

  return html`
    ${/* Emptied, since a browser tells of no change when the same file is chosen again. */ ""}
    <label class=${isOver ? "drop over" : "drop"} ref=${field}>
      <input class="unseen" type="file" accept="video/*,audio/*,image/*" onClick=${(event) => { event.target.value = ""; }} onChange=${(event) => take(event.target.files)} />
      <span class="drop-name">${clip ? html`<bdi>${clip.name}</bdi>` : "Drop a clip here, or choose one"}</span>
      <span class="small">${clip ? `${size(clip.file.size)} · choose another` : "video, sound or picture; it goes to this service only"}</span>
    </label>
    ${note && html`<p class="note" role="status">${note}</p>`}
    <${Recorder} onClip=${onClip} />
    ${examples.length > 0 && html`<div class="row wrap">
      <span class="small">Examples:</span>
      ${examples.map((one) => html`<button type="button" class="plain-button" onClick=${() => onExample(one)}>${one.title}</button>`)}
    </div>`}`;
}

/** Take files that are dropped anywhere, since a browser opens those that fall beside a field. Whether any are held over the page. */
function useDropped(take) {
  const [isOver, setIsOver] = useState(false);
  useEffect(() => {
    const ofFiles = (call) => (event) => {
      if (!event.dataTransfer.types.includes("Files")) return; // a text that is dragged into a field
      event.preventDefault();
      call(event);
    };
    const calls = {
      dragover: ofFiles(() => setIsOver(true)),
      dragleave: ofFiles((event) => !event.relatedTarget && setIsOver(false)),
      drop: ofFiles((event) => {
        setIsOver(false);
        take(event.dataTransfer);
      }),
    };
    for (const [name, call] of Object.entries(calls)) addEventListener(name, call);
    return () => Object.entries(calls).forEach(([name, call]) => removeEventListener(name, call));
  }); // after each drawing, since `take` belongs to one
  return isOver;
}

/** Camera and microphone, where the browser gives them to the page: on localhost and over HTTPS. */
function Recorder({ onClip }) {
  const [stream, setStream] = useState(null);
  const [recorder, setRecorder] = useState(null);
  const [seconds, setSeconds] = useState(0);
  const [fault, setFault] = useState("");
  const preview = useRef(null);

  useEffect(() => {
    if (preview.current) preview.current.srcObject = stream;
    return () => stream?.getTracks().forEach((track) => track.stop());
  }, [stream]);

  useEffect(() => {
    if (!recorder) return undefined;
    const timer = setInterval(() => setSeconds((before) => before + 1), 1000);
    return () => clearInterval(timer);
  }, [recorder]);

  useEffect(() => {
    if (recorder?.state === "recording" && seconds >= LONGEST_RECORDING_S) recorder.stop();
  }, [recorder, seconds]);

  if (!navigator.mediaDevices?.getUserMedia || !window.MediaRecorder) return null;

  async function open() {
    setFault("");
    try {
      setStream(await openDevices());
    } catch (error) {
      setFault(reasonOf(error));
    }
  }

  function start() {
    const parts = [];
    const started = new MediaRecorder(stream);
    started.ondataavailable = (event) => parts.push(event.data);
    started.onstop = () => {
      const type = started.mimeType.split(";")[0];
      onClip(clipOf(new File(parts, `recording.${type.endsWith("mp4") ? "mp4" : "webm"}`, { type })));
      close();
    };
    setSeconds(0);
    started.start();
    setRecorder(started);
  }

  function close() {
    setRecorder(null);
    setStream(null);
  }

  if (!stream) {
    return html`<div class="row wrap" data-home="record">
      <button type="button" id="record" class="plain-button" onClick=${open}>Record a clip</button>
      ${fault && html`<p class="note" role="alert">${fault}</p>`}
    </div>`;
  }
  return html`<div class="recorder" data-home="record">
    <video ref=${preview} class="player" autoplay muted playsinline aria-label="What the camera sees"></video>
    <div class="row wrap">
      ${recorder
        ? html`<button type="button" id="record" onClick=${() => recorder.stop()}>Stop and use it</button>
            <span class="small" role="timer">recording, ${seconds} of at most ${LONGEST_RECORDING_S} seconds</span>`
        : html`<${Fragment}>
            <button type="button" id="record" onClick=${start}>Start recording</button>
            <button type="button" class="plain-button" onClick=${close}>Close the camera</button>
          </${Fragment}>`}
    </div>
  </div>`;
}

/** Both where there are both, else the microphone. */
async function openDevices() {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: true, audio: true });
  } catch (error) {
    if (error.name !== "NotFoundError") throw error;
    return navigator.mediaDevices.getUserMedia({ audio: true });
  }
}

function reasonOf(error) {
  if (error.name === "NotAllowedError") return "The browser does not let this page use camera and microphone; allow it beside the address.";
  if (error.name === "NotFoundError") return "There is no camera and no microphone.";
  return "Camera or microphone can't be opened; another program may be using them.";
}
