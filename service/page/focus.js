/** Where the focus goes, and what comes into view, when parts of the page come and go. */

/** References (`ref`) for a part that has just come; the same function each time, so that it is called once. */
export const takesFocus = (element) => element?.focus();
export const comesIntoView = (element) => element?.scrollIntoView({ block: "nearest" });

/**
 * Keep the focus on the page when what has it vanishes or is disabled: browsers drop it, and Tab begins at the top again.
 *
 * Of a list the next item takes it; else what the nearest part around names by its id, as `data-home`.
 */
export function keepFocus(root) {
  let last = null; // what has the focus, or had it when it vanished

  root.addEventListener("focusin", (event) => {
    last = event.target;
  });
  // Not where it vanished, which some browsers tell of too, nor while another window is in front.
  root.addEventListener("focusout", () =>
    queueMicrotask(() => {
      if (last?.isConnected && !last.disabled && document.activeElement !== last) last = null;
    }),
  );
  const observer = new MutationObserver((changes) => {
    if (!last || (last.isConnected && !last.disabled)) return;
    const cut = changes.find(({ target, removedNodes }) => target.isConnected && [...removedNodes].some((node) => node.contains(last)));
    const part = cut?.target ?? last;
    last = null;
    (besideIn(cut) ?? homeOf(part))?.focus();
  });
  observer.observe(root, { childList: true, subtree: true, attributeFilter: ["disabled"] });
}

/** The button of the item after the one that was taken out of a list, else of the one before. */
function besideIn(cut) {
  if (!cut?.target.matches("ul, ol")) return null;
  const buttons = [cut.nextSibling, cut.previousSibling].map((item) => item?.isConnected && item.querySelector("button"));
  return buttons.find(Boolean) ?? null;
}

function homeOf(part) {
  for (let one = part; one; one = one.parentElement) {
    const home = one.dataset.home && document.getElementById(one.dataset.home);
    if (home) return home;
  }
  return null;
}
