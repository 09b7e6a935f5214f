// The token of the page: from the fragment of its address, which is never sent, or kept for the tab.

/** Token in a fragment: "#token=abc" -> "abc"; null if it names none. */
export function tokenOf(fragment) {
  return new URLSearchParams(fragment.replace(/^#/, "")).get("token");
}

const KEY = "stemrack.token";

/** Take the token out of the address bar, or the one this tab has kept. */
export function takeToken() {
  const given = tokenOf(location.hash);
  if (given !== null) {
    keepToken(given);
    history.replaceState(null, "", location.pathname + location.search);
    return given;
  }
  try {
    return sessionStorage.getItem(KEY) ?? "";
  } catch {
    return ""; // storage is forbidden: the token lives as long as the page
  }
}

/** Keep a token for this tab, so that reloading works. */
export function keepToken(token) {
  try {
    sessionStorage.setItem(KEY, token);
  } catch {
    // storage is forbidden: the page works until it is reloaded
  }
}
