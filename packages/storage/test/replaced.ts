/** An object with some members replaced, for a test; the others are those of the original, called on it. */
export function replaced<Original extends object>(original: Original, changes: Partial<Original>): Original {
  return new Proxy(original, {
    get(_, name) {
      const owner = name in changes ? changes : original;
      const member: unknown = Reflect.get(owner, name);
      return typeof member === 'function' ? member.bind(owner) : member;
    },
  });
}
