export function Rules(_: { params: URLSearchParams }) {
  return <h1>Rules</h1>;
}
