/* JSON merge patches (RFC 7396): null takes a member away, objects are merged, everything else is replaced. */

type Members = Record<string, unknown>;

function isObject(value: unknown): value is Members {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** What `target` becomes. Neither argument is changed; what the patch does not touch is shared with the target. */
export function mergePatch(target: unknown, patch: unknown): unknown {
  if (!isObject(patch)) return patch;
  const result: Members = isObject(target) ? { ...target } : {};
  for (const [name, value] of Object.entries(patch)) {
    if (value === null) delete result[name];
    else if (name === '__proto__') Object.defineProperty(result, name, { value, enumerable: true, configurable: true, writable: true });
    else result[name] = isObject(value) ? mergePatch(result[name], value) : value;
  }
  return result;
}
