for (const player of document.querySelectorAll(".player")) {
  const audio = player.querySelector("audio"), head = player.querySelector(".head");
  const box = player.querySelector(".spectrogram");
  if (!audio) continue;
  const length = () => audio.duration || Number(audio.dataset.seconds) || 0;
  const follow = () => {
    head.style.left = 100 * audio.currentTime / (length() || 1) + "%";
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", () => {
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    player.classList.add("heard"); follow();
  });
  audio.addEventListener("seeked", follow);
  box.addEventListener("click", event => {
    const area = box.getBoundingClientRect();
    audio.currentTime = (event.clientX - area.left) / area.width * length();
    audio.play();
  });
}
