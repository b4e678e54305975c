defmodule Example.MixProject do
  use Mix.Project

  def project do
    [
      app: :example,
      version: "0.1.0",
      elixir: "~> 1.14",
      deps: [{:data_publisher, path: "../.."}]
    ]
  end

  def application do
    [mod: {Example.Settings, []}]
  end
end
