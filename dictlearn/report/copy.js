"use strict";
for (const button of document.querySelectorAll("button.copy")) {
  const words = button.textContent;
  button.addEventListener("click", async () => {
    const data = button.parentElement.querySelector("pre").textContent;
    try {
      await navigator.clipboard.writeText(data);
    } catch {
      // A page from a server without TLS has no clipboard.
      const area = document.createElement("textarea");
      area.value = data;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = words; }, 1500);
  });
}
