%% @doc Keys and values, replicated to all nodes that run the scope: each node owns its keys, and everybody
%% sees everybody's.
%%
%% A key may have several values, one for each node that has put it; nothing is merged, the reader decides.
%% When a node goes, so do its values. When its scope is started again, on the same node, they come back: the
%% tables belong to a process of their own, `dp_kv_keeper'.
%%
%% ```
%% {ok, _} = dp_kv:start_link(settings),
%% ok = dp_kv:put(settings, limit, 100),
%% #{'a@host' := 100, 'b@host' := 200} = dp_kv:get(settings, limit),
%% {Ref, All} = dp_kv:subscribe(settings),
%% receive {Ref, put, Node, Key, Value} -> ... end.
%% '''
%%
%% A callback module of `data_publisher', the one of OTP 29 as well as the one that comes with this
%% application for older releases. Its twin in Rust is `kv' of the crate data-publisher. The wire format,
%% version 1:
%%
%% <ul>
%% <li>local data: `#{Key => Value}'</li>
%% <li>update: `[{put, Key, Value} | {delete, Key}]', in this order</li>
%% <li>subscriptions: `all', whose first result is `#{Key => #{Node => Value}}', and `{key, Key}' with
%%     `#{Node => Value}'</li>
%% <li>events: `{Ref, put, Node, Key, Value}' and `{Ref, delete, Node, Key}', only if something changed</li>
%% </ul>
%%
%% In a node's own keys `-0.0' is `0.0', for before OTP 27 the two are equal.
%%
%% Reads don't cross the scope's process. They go on while the scope is down: of the own keys always, of the
%% other nodes' until the scope has ended in an orderly way or is started again. Start a scope when the node
%% has its name: what is put before that belongs to `nonode@nohost'.
-module(dp_kv).
-behaviour(data_publisher).

-include_lib("kernel/include/logger.hrl").

-export([start/1, start/2, start_link/1, start_link/2, stop/1, child_spec/1, child_spec/2]).
-export([put/3, put_all/2, delete/2]).
-export([get/2, get/3, get/4, get_all/1]).
-export([subscribe/1, subscribe/2, unsubscribe/2]).

%% data_publisher
-export([version/0, init_global_view/2, init_local_data/1, stop_global_view/1, update_local_data/2,
         update_global_view_and_notify/4, data_diff/2, new_subscription/2, translate_update/3,
         translate_local_data/3]).

-export_type([scope/0, options/0, key/0, value/0, owners/0, subscription/0, event/0, change/0]).

-type scope() :: atom().
-type options() :: #{standalone => boolean(), term() => term()}.
-type key() :: term().
-type value() :: term().
%% The values of a key, by the nodes that own them.
-type owners() :: #{node() => value()}.
-type subscription() :: all | {key, key()}.
-type event() :: {reference(), put, node(), key(), value()} | {reference(), delete, node(), key()}.
-type change() :: {put, key(), value()} | {delete, key()}.

-type data() :: #{key() => value()}.
%% The behaviour asks for initial data, with the same words, once for the scope itself and then for each
%% peer. The own one has to be told from theirs: it may have been kept, and its keys are normalised.
-type local_data() :: {own, data()} | none | data().
%% What data_diff/2 makes, besides changes, when all of a peer's data comes or goes.
-type update() :: [change()] | {join, data()} | {leave, data()}.

-record(view, {
    table :: ets:table(),
    %% What is known of a node, the youngest first: that one is in the table. There are two only for a
    %% moment, when the scope there has restarted and the end of the old one isn't known here yet.
    nodes :: #{node() => [data(), ...]}
}).

-type subscriptions() :: #{subscription() => #{reference() => pid()}}.

%%% API

%% @equiv start(Scope, #{})
-spec start(scope()) -> {ok, pid()} | {error, term()}.
start(Scope) ->
    start(Scope, #{}).

%% @doc Starts the scope on this node and meets all who run it elsewhere. With `#{standalone => true}' it
%% meets nobody.
-spec start(scope(), options()) -> {ok, pid()} | {error, term()}.
start(Scope, Options) ->
    data_publisher:start(Scope, ?MODULE, Options).

%% @equiv start_link(Scope, #{})
-spec start_link(scope()) -> {ok, pid()} | {error, term()}.
start_link(Scope) ->
    start_link(Scope, #{}).

%% @doc As {@link start/2}, linked to the caller.
-spec start_link(scope(), options()) -> {ok, pid()} | {error, term()}.
start_link(Scope, Options) ->
    data_publisher:start_link(Scope, ?MODULE, Options).

%% @doc Stops the scope and forgets this node's keys. To be started again with them, a scope is stopped by
%% its supervisor, or by `gen_server:stop/1'.
-spec stop(scope()) -> ok.
stop(Scope) ->
    ok = gen_server:stop(Scope),
    dp_kv_keeper:drop(Scope).

%% @doc For a supervisor; in Elixir `{:dp_kv, :settings}' or `{:dp_kv, {:settings, %{}}}'.
-spec child_spec(scope() | {scope(), options()}) -> supervisor:child_spec().
child_spec({Scope, Options}) ->
    child_spec(Scope, Options);
child_spec(Scope) ->
    child_spec(Scope, #{}).

%% @doc For a supervisor.
-spec child_spec(scope(), options()) -> supervisor:child_spec().
child_spec(Scope, Options) ->
    #{id => {?MODULE, Scope}, start => {?MODULE, start_link, [Scope, Options]}}.

%% @doc This node's value of a key from now on. When it returns, readers here see it, and all peers are told.
-spec put(scope(), key(), value()) -> ok.
put(Scope, Key, Value) ->
    data_publisher:update(Scope, [{put, Key, Value}]).

%% @doc Many at once: one message to each peer, and no reader sees some of them and not the others. Of a key
%% given twice the last counts.
-spec put_all(scope(), #{key() => value()} | [{key(), value()}]) -> ok.
put_all(Scope, Pairs) when is_map(Pairs) ->
    put_all(Scope, maps:to_list(Pairs));
put_all(Scope, Pairs) ->
    data_publisher:update(Scope, [{put, Key, Value} || {Key, Value} <- Pairs]).

%% @doc This node's value of a key is gone; what other nodes have put stays.
-spec delete(scope(), key()) -> ok.
delete(Scope, Key) ->
    data_publisher:update(Scope, [{delete, Key}]).

%% @doc The values of a key; empty if nobody has put it. This and the other reads raise `badarg' if the scope
%% was never started here.
-spec get(scope(), key()) -> owners().
get(Scope, Key) ->
    owners(Scope, positive(Key)).

%% @doc The value one node has put; raises `{badkey, Key}' if it has none.
-spec get(scope(), key(), node()) -> value().
get(Scope, Key, Node) ->
    case get(Scope, Key) of
        #{Node := Value} -> Value;
        #{} -> error({badkey, Key}, [Scope, Key, Node])
    end.

%% @doc The value one node has put, or the default if it has none.
-spec get(scope(), key(), node(), Default) -> value() | Default.
get(Scope, Key, Node, Default) ->
    maps:get(Node, get(Scope, Key), Default).

%% @doc All keys with all values.
-spec get_all(scope()) -> #{key() => owners()}.
get_all(Scope) ->
    maps:from_list(ets:tab2list(Scope)).

%% @equiv subscribe(Scope, all)
-spec subscribe(scope()) -> {reference(), #{key() => owners()}}.
subscribe(Scope) ->
    subscribe(Scope, all).

%% @doc All there is, of all keys or of one, and from then on an {@link event()} for each change.
-spec subscribe(scope(), subscription()) -> {reference(), #{key() => owners()} | owners()}.
subscribe(Scope, {key, Key}) ->
    data_publisher:subscribe(Scope, {key, positive(Key)});
subscribe(Scope, all) ->
    data_publisher:subscribe(Scope, all).

%% @doc Ends a subscription. No event of it is in the caller's mailbox afterwards.
-spec unsubscribe(scope(), reference()) -> ok.
unsubscribe(Scope, Ref) ->
    ok = data_publisher:unsubscribe(Scope, Ref),
    flush(Ref).

flush(Ref) ->
    receive
        {Ref, put, _, _, _} -> flush(Ref);
        {Ref, delete, _, _} -> flush(Ref)
    after 0 -> ok
    end.

%%% data_publisher

%% @private
-spec version() -> 1.
version() ->
    1.

%% @private
-spec init_global_view(scope(), options()) -> #view{}.
init_global_view(Scope, _Options) ->
    Table = dp_kv_keeper:table(Scope),
    %% Left by a scope that had no time to clean up.
    forget_others(Table),
    Own = ets:foldl(fun({Key, #{} = Owners}, Data) -> Data#{Key => map_get(node(), Owners)} end,
                    #{}, Table),
    put({?MODULE, own}, Own),
    #view{table = Table, nodes = #{node() => [Own]}}.

%% @private
-spec init_local_data(options()) -> local_data().
init_local_data(_Options) ->
    case erase({?MODULE, own}) of
        undefined -> none;
        Own -> {own, Own}
    end.

%% @private
-spec stop_global_view(#view{}) -> ok.
stop_global_view(#view{table = Table}) ->
    forget_others(Table).

%% @private
-spec update_local_data(update(), local_data()) -> local_data().
update_local_data(Update, {own, Data}) ->
    {_, NewData} = changes(normalise(read_update(Update)), Data),
    {own, NewData};
update_local_data(Update, Data) when is_map(Data) ->
    {_, NewData} = changes(read_update(Update), Data),
    NewData;
update_local_data(_Update, Data) ->
    %% The peer's data isn't here yet; it will hold the update.
    Data.

%% @private
-spec update_global_view_and_notify(node(), update(), subscriptions(), #view{}) -> #view{}.
update_global_view_and_notify(Node, Update, Subscriptions, #view{nodes = Nodes} = View) ->
    Known = maps:get(Node, Nodes, []),
    case Update of
        {join, Data} ->
            Changes = diff(shown(Known), Data),
            show(Node, Changes, [Data | Known], Subscriptions, View);
        {leave, Data} ->
            Left = without(Data, Known),
            Changes = diff(shown(Known), shown(Left)),
            show(Node, Changes, Left, Subscriptions, View);
        _ when Known =:= [] ->
            View;
        _ ->
            [Shown | Older] = Known,
            Read = read_update(Update),
            {Changes, NewShown} = changes(case node() of Node -> normalise(Read); _ -> Read end, Shown),
            show(Node, Changes, [NewShown | Older], Subscriptions, View)
    end.

%% @private
-spec data_diff(local_data(), local_data()) -> update().
data_diff(Old, New) ->
    case {Old, read_data(New)} of
        {#{}, none} -> {leave, Old};
        {#{}, NewData} -> diff(Old, NewData);
        {_, none} -> [];
        {_, NewData} -> {join, NewData}
    end.

%% @private
-spec new_subscription(subscription(), #view{}) -> #{key() => owners()} | owners() | unreadable().
new_subscription(all, #view{table = Table}) ->
    get_all(Table);
new_subscription({key, Key}, #view{table = Table}) ->
    owners(Table, Key);
new_subscription(Subscription, _View) ->
    unreadable(subscription, Subscription, {error, badarg}).

%% @private
-spec translate_update(data_publisher:version(), data_publisher:version(), update()) -> update().
translate_update(_Ours, _Peers, Update) ->
    normalise(read_update(Update)).

%% @private
-spec translate_local_data(data_publisher:version(), data_publisher:version(), local_data()) -> data().
translate_local_data(_Ours, _Peers, {own, Data}) ->
    Data.

%%% What others send

read_update(Update) ->
    case is_update(Update) of
        true -> Update;
        false -> unreadable(update, Update, [])
    end.

is_update([{put, _Key, _Value} | Rest]) -> is_update(Rest);
is_update([{delete, _Key} | Rest]) -> is_update(Rest);
is_update(Rest) -> Rest =:= [].

read_data(Data) when is_map(Data); Data =:= none -> Data;
read_data(Data) -> unreadable(local_data, Data, none).

%% Our own behaviour refuses the call, or drops the peer's data and asks for it anew. That of OTP 29 would
%% end the scope: better to go without what nobody understands.
-if(?OTP_RELEASE >= 29).
-type unreadable() :: {error, badarg}.
unreadable(What, _Term, Instead) ->
    {registered_name, Scope} = process_info(self(), registered_name),
    ?LOG_WARNING("~tp: ignored what can't be read: ~ts", [Scope, What]),
    Instead.
-else.
-type unreadable() :: none().
-spec unreadable(atom(), term(), term()) -> no_return().
unreadable(What, Term, _Instead) ->
    error(badarg, [What, Term]).
-endif.

%%% Data

%% Those changes that make a difference, and the data afterwards.
changes(Update, Data) ->
    {Changes, NewData} = lists:foldl(fun change/2, {[], Data}, Update),
    {lists:reverse(Changes), NewData}.

change({put, Key, Value} = Change, {Changes, Data}) ->
    case Data of
        #{Key := Value} -> {Changes, Data};
        #{} -> {[Change | Changes], Data#{Key => Value}}
    end;
change({delete, Key} = Change, {Changes, Data}) ->
    case Data of
        #{Key := _} -> {[Change | Changes], maps:remove(Key, Data)};
        #{} -> {Changes, Data}
    end.

diff(Old, New) ->
    [{delete, Key} || Key <- maps:keys(Old), not is_map_key(Key, New)]
        ++ [{put, Key, Value} || {Key, Value} <- maps:to_list(New), not is_in(Key, Value, Old)].

is_in(Key, Value, Data) ->
    case Data of
        #{Key := Value} -> true;
        #{} -> false
    end.

shown([]) -> #{};
shown([Data | _]) -> Data.

%% One of a node's processes is gone. If it can't be told which by what it had, then it's the oldest: they
%% end in the order they started.
without(Data, Known) ->
    Oldest = lists:reverse(Known),
    case lists:member(Data, Oldest) of
        true -> lists:reverse(lists:delete(Data, Oldest));
        false -> lists:reverse(tl_or_empty(Oldest))
    end.

tl_or_empty([]) -> [];
tl_or_empty([_ | Rest]) -> Rest.

normalise(Update) ->
    [case Change of
         {put, Key, Value} -> {put, positive(Key), Value};
         {delete, Key} -> {delete, positive(Key)}
     end || Change <- Update].

%% The term with every -0.0 in it, at any depth, turned into 0.0.
positive(Float) when is_float(Float) ->
    Float + 0.0;
positive([Head | Tail]) ->
    [positive(Head) | positive(Tail)];
positive(Tuple) when is_tuple(Tuple) ->
    list_to_tuple(positive(tuple_to_list(Tuple)));
positive(Map) when is_map(Map) ->
    maps:from_list(positive(maps:to_list(Map)));
positive(Other) ->
    Other.

%%% The table: {Key, #{Node => Value}}

owners(Table, Key) ->
    case ets:lookup(Table, Key) of
        [{_, Owners}] -> Owners;
        [] -> #{}
    end.

%% Makes the node's part of the table what the head of `Known' says, which `Changes' lead to.
show(Node, Changes, Known, Subscriptions, #view{table = Table, nodes = Nodes} = View) ->
    write(Table, rows(Table, Node, Changes)),
    [notify(Node, Change, Subscriptions) || map_size(Subscriptions) > 0, Change <- Changes],
    case Known of
        [] -> View#view{nodes = maps:remove(Node, Nodes)};
        _ -> View#view{nodes = Nodes#{Node => Known}}
    end.

rows(Table, Node, Changes) ->
    lists:foldl(
        fun(Change, Rows) ->
            Key = element(2, Change),
            Owners = case Rows of #{Key := Row} -> Row; #{} -> owners(Table, Key) end,
            case Change of
                {put, _, Value} -> Rows#{Key => Owners#{Node => Value}};
                {delete, _} -> Rows#{Key => maps:remove(Node, Owners)}
            end
        end,
        #{}, Changes).

write(Table, Rows) ->
    {Empty, Full} = lists:partition(fun({_, Owners}) -> Owners =:= #{} end, maps:to_list(Rows)),
    %% All rows at once, for those who read meanwhile.
    true = ets:insert(Table, Full),
    [ets:delete(Table, Key) || {Key, _} <- Empty],
    ok.

forget_others(Table) ->
    Others = ets:foldl(
        fun({Key, Owners}, Rows) ->
            case maps:with([node()], Owners) of
                Owners -> Rows;
                Own -> Rows#{Key => Own}
            end
        end,
        #{}, Table),
    write(Table, Others).

notify(Node, Change, Subscriptions) ->
    tell(maps:get(all, Subscriptions, #{}), Node, Change),
    tell(maps:get({key, element(2, Change)}, Subscriptions, #{}), Node, Change).

tell(Subscribers, Node, Change) ->
    maps:foreach(
        fun(Ref, Pid) ->
            Event =
                case Change of
                    {put, Key, Value} -> {Ref, put, Node, Key, Value};
                    {delete, Key} -> {Ref, delete, Node, Key}
                end,
            erlang:send(Pid, Event, [noconnect])
        end,
        Subscribers).
