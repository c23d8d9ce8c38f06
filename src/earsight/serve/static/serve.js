// Drops, players and previews; the pages work without it, by plain forms and links.
(function () {
  "use strict";
  var previews = new Map();
  var dropped = null;

  function form() { return document.querySelector("form.drop"); }

  function say(text) {
    var box = document.getElementById("message");
    box.className = "fault";
    box.setAttribute("role", "alert");
    box.replaceChildren(Object.assign(document.createElement("p"), { textContent: text }));
    box.scrollIntoView({ block: "nearest" });
  }

  function quiet() {
    var box = document.getElementById("message");
    box.className = "";
    box.removeAttribute("role");
    box.replaceChildren();
  }

  // A file that is too large is refused here, before it is sent.
  function refuse(event) {
    var input = event.target.closest && event.target.closest("form.drop") &&
      form().querySelector("input[type=file]");
    if (!input || !input.files.length) { return; }
    quiet();
    var most = Number(form().dataset.limit);
    if (input.files[0].size > most) {
      say("The file is larger than the limit of " + Math.round(most / 1048576) +
        " MB; cut out the part to search with.");
      input.value = "";
      event.preventDefault();
      event.stopPropagation();
      return;
    }
    dropped = input.files[0];
  }
  document.addEventListener("change", refuse, true);
  document.addEventListener("submit", refuse, true);

  document.addEventListener("dragover", function (event) {
    if (!Array.from(event.dataTransfer.types).includes("Files")) { return; }
    event.preventDefault();
    form().classList.add("over");
  });
  document.addEventListener("dragleave", function (event) {
    if (!event.relatedTarget) { form().classList.remove("over"); }
  });
  document.addEventListener("drop", function (event) {
    form().classList.remove("over");
    if (!event.dataTransfer.files.length) { return; }
    event.preventDefault();
    var one = new DataTransfer();
    one.items.add(event.dataTransfer.files[0]);
    var input = form().querySelector("input[type=file]");
    input.files = one.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  });

  document.addEventListener("htmx:xhr:progress", function (event) {
    var bar = form().querySelector("progress");
    if (event.detail.lengthComputable && event.detail.loaded < event.detail.total) {
      bar.max = event.detail.total;
      bar.value = event.detail.loaded;
    } else {
      bar.removeAttribute("value");
    }
  });
  document.addEventListener("htmx:sendError", function () {
    say("The server does not answer; is it still running?");
  });

  // The query is played from where it was chosen: it is not kept by the server.
  function preview() {
    document.querySelectorAll("[data-query]").forEach(function (place) {
      if (place.childElementCount) { return; }
      var name = place.dataset.query;
      if (dropped && !previews.has(name)) {
        previews.set(name, { url: URL.createObjectURL(dropped), type: dropped.type });
        dropped = null;
      }
      var known = previews.get(name);
      if (!known) { return; }
      var player = document.createElement(known.type.startsWith("audio/") ? "audio" : "video");
      player.controls = true;
      player.src = known.url;
      player.setAttribute("aria-label", "The file that is searched with");
      place.append(player);
    });
  }
  document.addEventListener("htmx:afterSettle", function (event) {
    if (event.detail.target.id !== "main" && !document.querySelector("[data-query]")) { return; }
    preview();
    var main = document.getElementById("main");
    if (event.detail.elt === main || event.detail.target === main) {
      quiet();
      form().reset();
      main.focus({ preventScroll: true });
    }
  });

  // One clip plays at a time, and a moment that has been played starts anew.
  document.addEventListener("play", function (event) {
    var player = event.target;
    document.querySelectorAll("video, audio").forEach(function (other) {
      if (other !== player) { other.pause(); }
    });
    if (player.dataset.end && player.currentTime >= Number(player.dataset.end) - 0.05) {
      player.currentTime = Number(player.dataset.start);
    }
  }, true);

  document.addEventListener("error", function (event) {
    var player = event.target;
    if (!(player instanceof HTMLMediaElement) || player.nextElementSibling &&
      player.nextElementSibling.className === "absent") { return; }
    var note = document.createElement("p");
    note.className = "absent";
    var codecs = player.dataset.codecs;
    note.textContent = "This browser cannot play it" + (codecs ? " (" + codecs + ")." : ".");
    player.after(note);
  }, true);
}());
