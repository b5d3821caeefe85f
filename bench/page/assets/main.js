// From the address to a page, and back.

const main = document.getElementById("main");
const home = document.title;
let current = {};
let width = 0;

function pageOf(parts, chosen) {
  const [page, one, two] = parts;
  if (!page) return homePage();
  if (page === "board") return boardPage(one, chosen);
  if (page === "methods") return methodsPage();
  if (page === "method") return methodPage(one);
  if (page === "run") return runPage(one);
  if (page === "compare") return comparePage(one, two);
  return missingPage("There is no such page.");
}

function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

const SECTION = { methods: "methods", method: "methods", compare: "compare" };

function show(focus) {
  const [path, query] = location.hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").map(decoded);
  current = pageOf(parts, new URLSearchParams(query ?? ""));
  main.replaceChildren(el("div", {}, current.page));
  document.title = `${current.title} · ${home}`;
  for (const item of document.querySelectorAll("nav a")) {
    const here = item.dataset.page === (SECTION[parts[0]] ?? "boards");
    if (here) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  current.resize?.();
  width = main.clientWidth;
  if (focus) {
    scrollTo(0, 0);
    main.focus({ preventScroll: true });
  }
}

// A plot is as wide as its place.
new ResizeObserver(() => {
  if (main.clientWidth === width) return;
  width = main.clientWidth;
  if (current.resize) requestAnimationFrame(() => current.resize?.());
}).observe(main);

document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener("hashchange", () => show(true));
show(false);
