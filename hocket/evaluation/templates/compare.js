for (const choice of document.querySelectorAll(".axes input"))
  choice.addEventListener("change", () => {
    for (const panels of document.querySelectorAll(".panels.by")) panels.hidden = panels.dataset.axis !== choice.value;
  });
const buttons = [...document.querySelectorAll(".runs button")];
for (const button of buttons)
  button.addEventListener("click", () => {
    const chosen = button.getAttribute("aria-pressed") !== "true";
    for (const one of buttons)
      one.setAttribute("aria-pressed", String(chosen && one.dataset.run === button.dataset.run));
    if (chosen) document.body.dataset.only = button.querySelector("svg").classList[0];
    else delete document.body.dataset.only;
    for (const one of document.querySelectorAll(".chart polyline, .chart .ends span, .chart .facts > span"))
      one.classList.toggle("dim", chosen && !one.classList.contains(document.body.dataset.only));
  });
