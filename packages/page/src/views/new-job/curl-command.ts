/**
 * The request as a command of a shell. A key is not in it, only the name of its environment variable.
 * @param url - Where it is sent
 */
export function curlCommand(url: string, request: object, hasKey: boolean): string {
  return [
    `curl ${quoted(url)}`,
    ...(hasKey ? ['-H "authorization: Bearer $LORASMITH_API_KEY"'] : []),
    `-H 'content-type: application/json'`,
    `-d ${quoted(JSON.stringify(request))}`,
  ].join(' \\\n  ');
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
