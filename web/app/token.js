// Reads a token far enough to greet its owner. Whether it is genuine only the server can say.

/**
 * The user a token speaks for; `null` if it is no token, names nobody, or has expired.
 * @param {string | null} token
 * @returns {string | null}
 */
export function subjectOf(token) {
  const claims = claimsOf(token);
  if (typeof claims?.sub !== "string") return null;
  if (typeof claims.exp === "number" && claims.exp * 1_000 <= Date.now()) return null;
  return claims.sub;
}

/** @param {string | null} token */
function claimsOf(token) {
  try {
    const [, payload] = (token ?? "").split(".");
    const bytes = atob(payload.replaceAll("-", "+").replaceAll("_", "/"));
    return JSON.parse(new TextDecoder().decode(Uint8Array.from(bytes, (char) => char.charCodeAt(0))));
  } catch {
    return null;
  }
}
