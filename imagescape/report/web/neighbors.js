"use strict";
// The page is whole without this: it only lets one family of queries be seen alone.
const filter = document.getElementById("filter");
if (filter) {
  const select = filter.querySelector("select");
  const said = document.querySelector("output");
  const articles = [...document.querySelectorAll("article")];
  const sections = [...document.querySelectorAll("section")];
  filter.hidden = false;

  const show = () => {
    const family = select.selectedIndex > 0 ? select.value : null;
    let seen = 0;
    for (const article of articles) {
      article.hidden = family !== null && article.dataset.family !== family;
      seen += !article.hidden;
    }
    for (const section of sections) {
      const count = section.querySelectorAll("article:not([hidden])").length;
      section.hidden = count === 0;
      section.querySelector("h2 span").textContent = count.toLocaleString("en");
      const link = document.querySelector(`nav a[href="#${section.id}"]`);
      link.hidden = section.hidden;
      link.querySelector("span").textContent = count.toLocaleString("en");
    }
    said.textContent = family === null ? "" : `${seen} of ${articles.length} queries`;
  };
  select.addEventListener("change", show);
  show(); // a browser may have kept the choice over a reload
}
